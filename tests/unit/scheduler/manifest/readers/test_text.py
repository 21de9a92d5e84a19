"""Plain text: one prompt a line."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.manifest.problems import FieldError, ManifestProblems, Problems
from scheduler.manifest.readers.text import TextReader

Rows = Callable[..., list[tuple[int, Any]]]

CONTROL = "None: holds control characters; this does not look like text"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"a cat\na dog\n", [(1, "a cat"), (2, "a dog")]),
        (b"a cat\r\na dog", [(1, "a cat"), (2, "a dog")]),
        (b"\n\na cat\n \t \n", [(3, "a cat")]),
        (b"  a cat  \n", [(1, "  a cat  ")]),
        (b"\xef\xbb\xbfa cat\n", [(1, "a cat")]),
        (b'"a", b\tc\n', [(1, '"a", b\tc')]),
        (b"# no comment\n", [(1, "# no comment")]),
        ("日本の猫\u2028🐈\n".encode(), [(1, "日本の猫\u2028🐈")]),
    ],
)
def test_each_line_that_is_not_blank_is_a_prompt_as_it_stands(
    rows_of: Rows, data: bytes, expected: list[tuple[int, str]]
) -> None:
    assert rows_of(TextReader, data) == [(line, {"prompt": text}) for line, text in expected]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (b"caf\xe9", "None: is not UTF-8: byte 4 is 0xe9"),
        (b"a\x07b", CONTROL),
        (b"a\rb", CONTROL),
        (b"\x1b[31mred", CONTROL),
        (b"x" * 101, "None: the line is too long; the limit is 100 (RENDERMILL_MAX_ROW_BYTES)"),
    ],
)
def test_a_bad_line_leaves_its_neighbours_alone(rows_of: Rows, bad: bytes, said: str) -> None:
    data = b"a cat\n" + bad + b"\na dog\n"
    assert rows_of(TextReader, data, max_row_bytes=100) == [
        (1, {"prompt": "a cat"}),
        (2, said),
        (3, {"prompt": "a dog"}),
    ]


def test_blank_lines_are_counted_in_a_note() -> None:
    reader = TextReader(io.BytesIO(b"\na\n \nb\n"), Problems("a"), max_row_bytes=100)
    list(reader.rows())
    assert reader.notes == ["2 blank lines passed over"]


def test_without_blank_lines_there_is_nothing_to_note() -> None:
    reader = TextReader(io.BytesIO(b"a\nb\n"), Problems("a"), max_row_bytes=100)
    list(reader.rows())
    assert reader.notes == []


def test_a_prompt_of_ten_megabytes_is_refused_and_never_held() -> None:
    data = b"a cat\n" + b"x" * (10 << 20) + b"\na dog\n"
    reader = TextReader(io.BytesIO(data), Problems("a"), max_row_bytes=1 << 16)
    tracemalloc.start()
    rows = list(reader.rows())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [isinstance(row, FieldError) for _, row in rows] == [False, True, False]
    assert peak < 6 << 20


@given(st.binary(max_size=200))
def test_any_bytes_are_rows_or_one_clear_error(rows_of: Rows, data: bytes) -> None:
    try:
        rows = rows_of(TextReader, data)
    except ManifestProblems:
        return
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    assert len(rows) == sum(bool(line.strip()) for line in lines)


LINES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1)


@given(st.lists(LINES.filter(lambda text: text.strip(" ") and not text.startswith("\ufeff"))))
def test_any_text_survives_unchanged(rows_of: Rows, prompts: list[str]) -> None:
    data = "".join(f"{prompt}\n" for prompt in prompts).encode()
    assert [row["prompt"] for _, row in rows_of(TextReader, data)] == prompts
