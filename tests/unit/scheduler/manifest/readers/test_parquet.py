"""Parquet files."""

from __future__ import annotations

import datetime
import decimal
import hashlib
import io
import sys
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.manifest.problems import ManifestProblems, Problems
from scheduler.manifest.readers.parquet import ParquetReader
from storage.contract.errors import SettingError

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def made(columns: dict[str, Any], **options: Any) -> bytes:
    written = io.BytesIO()
    parquet.write_table(pa.table(columns), written, **options)
    return written.getvalue()


def rows_of(data: bytes) -> list[tuple[int, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.parquet")
        path.write_bytes(data)
        return list(ParquetReader(path, Problems("a")).rows())


def refused(data: bytes) -> str:
    with pytest.raises(ManifestProblems) as caught:
        rows_of(data)
    return caught.value.message


def test_each_row_of_the_table_is_a_row_and_keeps_its_types() -> None:
    data = made({"prompt": ["a", "日本"], "seed": [1, None], "x": [True, False], "g": [1.5, 2.0]})
    assert rows_of(data) == [
        (1, {"prompt": "a", "seed": 1, "x": True, "g": 1.5}),
        (2, {"prompt": "日本", "seed": None, "x": False, "g": 2.0}),
    ]


def test_rows_go_on_over_groups_and_batches() -> None:
    data = made({"prompt": [str(number) for number in range(10_000)]}, row_group_size=3000)
    rows = rows_of(data)
    assert [line for line, _ in rows] == list(range(1, 10_001))
    assert rows[-1][1] == {"prompt": "9999"}


def test_a_table_without_rows_has_none() -> None:
    assert rows_of(made({"prompt": pa.array([], pa.string())})) == []


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1], pa.int8()),
        pa.array([1], pa.uint64()),
        pa.array([1.5], pa.float16()),
        pa.array(["a"], pa.large_string()),
        pa.array(["a"], pa.string_view()),
        pa.array(["a"]).dictionary_encode(),
        pa.array([b"a"], pa.binary()),
        pa.array([decimal.Decimal("1.5")]),
        pa.array([1], pa.time64("ns")),
        pa.array([datetime.date(2026, 1, 2)]),
        pa.array([datetime.time(1, 2)]),
        pa.array([1], pa.timestamp("s")),
        pa.array([1], pa.timestamp("ns")),
        pa.array([2**62], pa.timestamp("ns")),
        pa.array([-(2**62)], pa.timestamp("us")),
        pa.array([1], pa.timestamp("us", tz="Europe/Berlin")),
        pa.array([1], pa.timestamp("us", tz="Nowhere/Land")),
        pa.array([2**62], pa.duration("s")),
        pa.array([1], pa.duration("ns")),
        pa.array([2**30], pa.date32()),
        pa.array([[1, 2]]),
        pa.array([{"a": 1}]),
        pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
        pa.nulls(1),
    ],
    ids=lambda values: str(values.type),
)
def test_columns_of_every_type_are_read_or_refused_in_words(values: Any) -> None:
    data = made({"prompt": ["a"], "x": values})
    try:
        rows = rows_of(data)
    except ManifestProblems:
        return
    assert rows[0][1].keys() == {"prompt", "x"}


def test_moments_keep_their_nanoseconds() -> None:
    moments = pa.array([1_000_000_001, None], pa.timestamp("ns"))
    rows = rows_of(made({"prompt": ["a", "b"], "at": moments}))
    assert [row["at"] for _, row in rows] == ["1970-01-01T00:00:01.000000001", None]


def test_a_value_that_python_cannot_hold_is_refused_by_the_name_of_its_column() -> None:
    said = refused(made({"prompt": ["a"], "at": pa.array([2**62], pa.timestamp("us"))}))
    assert said.startswith("a: at: holds a value that cannot be read: ")


def test_two_columns_of_one_name_are_refused() -> None:
    table = pa.table([["a"], ["b"], [1]], names=["prompt", "prompt", "seed"])
    written = io.BytesIO()
    parquet.write_table(table, written)
    assert refused(written.getvalue()) == "a: has two columns named prompt"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PAR1",
        b"PAR1PAR1",
        b"a prompt\n" * 10,
        bytes(range(256)) * 8,
        made({"prompt": ["a"]})[:-1],
        made({"prompt": ["a"]})[: -len("PAR1")] + b"PAR2",
        b"PAR1" + b"\xff" * 4 + b"PAR1",
    ],
    ids=["empty", "mark", "two marks", "text", "bytes", "cut", "other mark", "huge footer"],
)
def test_what_is_no_parquet_file_is_refused(data: bytes) -> None:
    assert refused(data).startswith("a: is not a readable Parquet file: ")
    assert "\n" not in refused(data)


def test_damage_in_the_pages_is_refused() -> None:
    whole = made({"prompt": [f"prompt {number}" * 9 for number in range(5000)]}, compression="zstd")
    damaged = whole[:2000] + bytes(1000) + whole[3000:]
    assert refused(damaged).startswith("a: is not a readable Parquet file: ")


def test_text_that_is_not_utf8_is_refused() -> None:
    bad = pa.array([b"caf\xe9"], pa.binary()).view(pa.string())
    assert refused(made({"prompt": bad})).startswith("a: prompt: holds a value that cannot be")


def test_the_digest_is_that_of_the_files_bytes(tmp_path: Path) -> None:
    data = made({"prompt": ["a"]})
    (tmp_path / "a.parquet").write_bytes(data)
    reader = ParquetReader(tmp_path / "a.parquet", Problems("a"))
    assert reader.digest == hashlib.sha256(data).hexdigest()
    assert reader.notes == []


def test_without_pyarrow_there_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(made({"prompt": ["a"]}))
    with pytest.raises(SettingError, match="reading Parquet needs pyarrow") as caught:
        list(ParquetReader(tmp_path / "a.parquet", Problems("a")).rows())
    assert caught.value.hint == "pip install 'rendermill[parquet]'"


def test_memory_stays_flat_over_many_rows(tmp_path: Path) -> None:
    data = made({"prompt": [f"prompt {number}" for number in range(100_000)]})
    (tmp_path / "a.parquet").write_bytes(data)
    reader = ParquetReader(tmp_path / "a.parquet", Problems("a"))
    tracemalloc.start()
    count = sum(1 for _ in reader.rows())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 100_000
    assert peak < 6 << 20


@given(st.binary(max_size=200))
def test_any_bytes_are_one_clear_error(data: bytes) -> None:
    assert refused(b"PAR1" + data + b"PAR1")


WHOLE = made({"prompt": ["a cat", "a dog"], "seed": [1, 2]}, compression="none")


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
def test_any_damaged_byte_gives_rows_or_one_clear_error(place: int, byte: int) -> None:
    try:
        rows = rows_of(WHOLE[:place] + bytes([byte]) + WHOLE[place + 1 :])
    except ManifestProblems:
        return
    assert all(isinstance(row, dict) for _, row in rows)


@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=10))
def test_any_text_survives_unchanged(prompts: list[str]) -> None:
    data = made({"prompt": pa.array(prompts, pa.string())})
    assert [row["prompt"] for _, row in rows_of(data)] == prompts
