"""JSON lines: one object a line."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.manifest.problems import FieldError, ManifestProblems, Problems
from scheduler.manifest.readers.jsonl import JsonLinesReader

Rows = Callable[..., list[tuple[int, Any]]]

HALF = "None: holds half of a surrogate pair (\\ud800 to \\udfff), which is no character"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b'{"prompt": "a"}\n\n \t\r\n{"prompt": "b", "n": 2}', [(1, "a"), (4, "b")]),
        (b'\xef\xbb\xbf{"prompt": "a"}\r\n{"prompt":"b"}\r\n', [(1, "a"), (2, "b")]),
        (b' {"prompt" : "a:b"}\n', [(1, "a:b")]),
        (b'{"prompt": "\\ud83d\\udc08 \\u0000 \\n"}\n', [(1, "🐈 \0 \n")]),
        ('{"prompt": "日本\u2028"}\n'.encode(), [(1, "日本\u2028")]),
    ],
)
def test_each_line_that_is_not_blank_is_a_row(
    rows_of: Rows, data: bytes, expected: list[tuple[int, str]]
) -> None:
    found = [(line, row["prompt"]) for line, row in rows_of(JsonLinesReader, data)]
    assert found == expected


def test_values_keep_their_types(rows_of: Rows) -> None:
    values = {"a": 1, "b": 1.5, "c": True, "d": None, "e": "1", "f": {"g": [1]}, "h": 2**80}
    ((_, row),) = rows_of(JsonLinesReader, json.dumps(values).encode())
    assert row == values
    assert [type(value) for value in row.values()] == [type(value) for value in values.values()]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (b"a cat", "None: cannot be read as JSON: "),
        (b'{"prompt": "a"', "None: cannot be read as JSON: "),
        (b'{"prompt": "a"},', "None: cannot be read as JSON: "),
        (b'{"prompt": "a"} {"prompt": "b"}', "None: cannot be read as JSON: "),
        (b"{'prompt': 'a'}", "None: cannot be read as JSON: "),
        (b'{"prompt": "a", "guidance_scale": NaN}', "None: cannot be read as JSON: "),
        (b'{"prompt": "a", "guidance_scale": Infinity}', "None: cannot be read as JSON: "),
        (b'{"prompt": "a", "guidance_scale": 1e400}', "None: cannot be read as JSON: Number out"),
        (b'{"prompt": "a", "n": %s}' % (b"9" * 5000), "None: cannot be read as JSON: "),
        (b'{"prompt": "a\tb"}', "None: cannot be read as JSON: "),
        (b'{"prompt": "a", "x": %s}' % (b"[" * 50_000 + b"]" * 50_000), "None: is nested too"),
        (b"[1, 2]", "None: must be one JSON object (Expected `object`, got `array`)"),
        (b'"a cat"', "None: must be one JSON object (Expected `object`, got `str`)"),
        (b"null", "None: must be one JSON object (Expected `object`, got `null`)"),
        (b"7", "None: must be one JSON object (Expected `object`, got `int`)"),
        (b'{"prompt": "caf\xe9"}', "None: is not UTF-8: byte 16 is 0xe9"),
        (b'{"caf\xe9": "a"}', "None: is not UTF-8: byte 6 is 0xe9"),
        (b'{"prompt": "\\ud800"}', HALF),
        (b'{"prompt": "\\udc00 and more text"}', HALF),
        (b'{"prompt": "\\ud800 and more text"}', HALF),
        (b'{"prompt": "a", "t\\udfff": "x"}', HALF),
        (b'{"prompt": "a", "tags": {"x": "\\uDBFF"}}', HALF),
        (b'{"prompt": "a", "prompt": "b"}', "prompt: is there twice"),
        (b'{"prompt": "a: b", "seed":1, "seed" :2}', "seed: is there twice"),
        (b'{"prompt": "a", "tags": {"x": 1, "x": 2}}', "x: is there twice"),
        (b'{"prompt": "%s"}' % (b"x" * 200_000), "None: the line is too long; the limit is 200,"),
    ],
    ids=lambda value: value[:40].decode("latin-1") if isinstance(value, bytes) else "",
)
def test_a_bad_line_leaves_its_neighbours_alone(rows_of: Rows, bad: bytes, said: str) -> None:
    data = b'{"prompt": "a"}\n' + bad + b'\n{"prompt": "b"}\n'
    first, second, third = rows_of(JsonLinesReader, data, max_row_bytes=200_000)
    assert (first, third) == ((1, {"prompt": "a"}), (3, {"prompt": "b"}))
    assert second[0] == 2
    assert second[1].startswith(said)


@pytest.mark.parametrize(
    "line",
    [
        '{"prompt": "a: b: c"}',
        '{"prompt": "say \\":\\": twice"}',
        '{"prompt": "a", "tags": {"prompt": "b", "x": "y:z"}}',
        '{"prompt": "a:", "x": {"prompt": {"prompt": 1}}}',
        '{"prompt" :"a", "b" : 1, "c":2}',
    ],
)
def test_keys_of_different_objects_are_not_doubled(rows_of: Rows, line: str) -> None:
    assert rows_of(JsonLinesReader, line.encode()) == [(1, json.loads(line))]


def test_deep_nesting_is_a_row_or_a_problem_at_every_depth(rows_of: Rows) -> None:
    for depth in (*range(1, 2000, 97), *range(960, 1010)):
        line = b'{"prompt": "a:", "x": ' + b"[" * depth + b"]" * depth + b"}"
        ((number, row),) = rows_of(JsonLinesReader, line)
        assert number == 1
        assert isinstance(row, dict) or row == "None: is nested too deeply"


def test_a_prompt_of_ten_megabytes_is_refused_and_never_held() -> None:
    data = b'{"prompt": "a"}\n{"prompt": "%s"}\n{"prompt": "b"}\n' % (b"x" * (10 << 20))
    reader = JsonLinesReader(io.BytesIO(data), Problems("a"), max_row_bytes=1 << 16)
    tracemalloc.start()
    rows = list(reader.rows())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [isinstance(row, FieldError) for _, row in rows] == [False, True, False]
    assert peak < 6 << 20


@given(st.binary(max_size=200))
def test_any_bytes_are_rows_or_one_clear_error(rows_of: Rows, data: bytes) -> None:
    try:
        rows = rows_of(JsonLinesReader, data)
    except ManifestProblems:
        return
    assert len(rows) <= data.count(b"\n") + 1


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_whatever_json_can_say_is_a_row_or_a_problem_of_its_line(
    rows_of: Rows, values: dict[str, Any]
) -> None:
    line = json.dumps(values).encode()  # with NaN, Infinity and half surrogate pairs
    ((number, row),) = rows_of(JsonLinesReader, line)
    assert number == 1
    if isinstance(row, dict):
        assert json.dumps(row, ensure_ascii=False).encode()  # it is text that can be written


PROMPTS = st.lists(st.text(st.characters(codec="utf-8")), max_size=10)


@pytest.mark.parametrize("ascii_only", [True, False])
@given(prompts=PROMPTS)
def test_any_text_survives_unchanged(rows_of: Rows, prompts: list[str], ascii_only: bool) -> None:
    data = "\n".join(json.dumps({"prompt": one}, ensure_ascii=ascii_only) for one in prompts)
    assert [row["prompt"] for _, row in rows_of(JsonLinesReader, data.encode())] == prompts
