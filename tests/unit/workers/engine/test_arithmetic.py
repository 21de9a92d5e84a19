from __future__ import annotations

from pathlib import Path

import pytest

from workers.engine.arithmetic import FILE, _seconds, cpu_dtypes


def test_the_faster_dtype_is_measured_once_and_kept(tmp_path: Path) -> None:
    asked: list[str] = []

    def measure(dtype: str) -> float:
        asked.append(dtype)
        return {"float32": 1.0, "bfloat16": 0.5}[dtype]

    found = [cpu_dtypes(tmp_path, processor="a", threads=2, measure=measure) for _ in range(2)]

    assert found == [("bfloat16", "float32")] * 2
    assert asked == ["float32", "bfloat16"]


def test_a_gain_that_is_not_worth_the_precision_is_left(tmp_path: Path) -> None:
    slow = {"float32": 1.0, "bfloat16": 0.9}
    assert cpu_dtypes(tmp_path, processor="a", threads=2, measure=slow.__getitem__) == ("float32",)


def test_another_processor_is_measured_anew(tmp_path: Path) -> None:
    fast, slow = {"float32": 1.0, "bfloat16": 0.1}, {"float32": 1.0, "bfloat16": 5.0}
    cpu_dtypes(tmp_path, processor="a", threads=2, measure=fast.__getitem__)
    assert cpu_dtypes(tmp_path, processor="b", threads=2, measure=slow.__getitem__) == ("float32",)


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1'])
def test_what_was_kept_and_cannot_be_read_is_measured_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    fast = {"float32": 1.0, "bfloat16": 0.1}
    found = cpu_dtypes(tmp_path, processor="a", threads=2, measure=fast.__getitem__)
    assert found == ("bfloat16", "float32")


def test_one_thread_needs_no_measuring(tmp_path: Path) -> None:
    def never(_dtype: str) -> float:
        pytest.fail("measured")

    assert cpu_dtypes(tmp_path, processor="a", threads=1, measure=never) == ("float32",)


def test_measuring_takes_some_time_and_ends() -> None:
    assert 0 < _seconds("float32") < 60
