"""Comma- and tab-separated tables."""

from __future__ import annotations

import csv
import io
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.manifest.problems import FieldError, ManifestProblems, Problems
from scheduler.manifest.readers.base import LinesReader
from scheduler.manifest.readers.table import CsvReader, TsvReader

Rows = Callable[..., list[tuple[int, Any]]]

TOO_LONG = "None: the line is too long; the limit is 100 (RENDERMILL_MAX_ROW_BYTES)"
BOTH = pytest.mark.parametrize(
    ("kind", "tab"), [(CsvReader, b","), (TsvReader, b"\t")], ids=["CSV", "TSV"]
)


def refused(kind: type[LinesReader], data: bytes) -> ManifestProblems:
    reader = kind(io.BytesIO(data), Problems("a"), max_row_bytes=1 << 20)
    with pytest.raises(ManifestProblems) as caught:
        list(reader.rows())
    return caught.value


@BOTH
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["bare", "BOM"])
def test_the_first_line_names_the_columns(
    rows_of: Rows, kind: type[LinesReader], tab: bytes, end: bytes, mark: bytes
) -> None:
    lines = [b"prompt, note ", b"a cat,", "日本,é".encode(), b" a dog ,x"]
    data = mark + end.join(lines).replace(b",", tab)
    for whole in (data, data + end):
        assert rows_of(kind, whole) == [
            (2, {"prompt": "a cat", "note": ""}),
            (3, {"prompt": "日本", "note": "é"}),
            (4, {"prompt": " a dog ", "note": "x"}),
        ]


@BOTH
def test_blank_lines_are_no_rows_but_count_as_lines(
    rows_of: Rows, kind: type[LinesReader], tab: bytes
) -> None:
    data = b"\n\nprompt,n\n\na,1\n\n\nb,2\n\n".replace(b",", tab)
    assert [line for line, _ in rows_of(kind, data)] == [5, 8]


@BOTH
def test_a_row_with_other_cells_than_the_header_is_a_problem_of_that_row(
    rows_of: Rows, kind: type[LinesReader], tab: bytes
) -> None:
    data = b"prompt,n\na\nb,2\nc,3,4\n".replace(b",", tab)
    assert rows_of(kind, data) == [
        (2, "None: has 1 cells; the header has 2"),
        (3, {"prompt": "b", "n": "2"}),
        (4, "None: has 3 cells; the header has 2"),
    ]


@BOTH
@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"prompt,note,prompt", "has two columns named prompt"),
        (b"a,b,b,a,c", "has two columns named a, b"),
        (b"prompt, prompt ", "has two columns named prompt"),
        (b"prompt,,seed", "has no name for column 2"),
        (b"prompt,n,", "has no name for column 3"),
        (b"pro\x01mpt,n", "is not a text table: its first line holds control characters"),
        (b"prom\xffpt,n", "line 1 is not UTF-8: byte 5 is 0xff"),
        (b"x" * (1 << 20) + b"x,n", "line 1 the line is too long; the limit is 1,048,576"),
    ],
    ids=range(8),
)
def test_a_bad_header_refuses_the_file_and_says_what_it_must_be(
    kind: type[LinesReader], tab: bytes, header: bytes, said: str
) -> None:
    error = refused(kind, header.replace(b",", tab) + b"\na,b,c\n")
    assert error.message.startswith(f"a: {said}")
    assert error.hint == "the first line must name the columns, 'prompt' among them"


@BOTH
def test_a_header_of_very_many_columns_is_checked_at_once(
    rows_of: Rows, kind: type[LinesReader], tab: bytes
) -> None:
    header = tab.join(b"c%d" % number for number in range(100_000))
    assert rows_of(kind, header + b"\n") == []


@BOTH
@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (b"caf\xe9,1", "None: is not UTF-8: byte 4 is 0xe9"),
        (b"a\x00b,1", "None: holds a NUL character; this does not look like text"),
        (b"x" * 101 + b",1", TOO_LONG),
    ],
)
def test_a_bad_line_leaves_its_neighbours_alone(
    rows_of: Rows, kind: type[LinesReader], tab: bytes, bad: bytes, said: str
) -> None:
    # A file with NUL early on is taken for binary, so there is much in front.
    data = b"prompt,n\n" + b"a,1\n" * 20_000 + bad + b"\nb,2\n"
    rows = rows_of(kind, data.replace(b",", tab), max_row_bytes=100)
    assert rows[-2:] == [(20_002, said), (20_003, {"prompt": "b", "n": "2"})]
    assert len(rows) == 20_002


# Tab-separated


def test_tab_separated_cells_are_never_quoted(rows_of: Rows) -> None:
    data = b'Prompt\tCategory\n"a" cat\tAnimals\n"\t"\n\'a, b\tx\n'
    assert rows_of(TsvReader, data) == [
        (2, {"Prompt": '"a" cat', "Category": "Animals"}),
        (3, {"Prompt": '"', "Category": '"'}),
        (4, {"Prompt": "'a, b", "Category": "x"}),
    ]


# Comma-separated


def test_quoted_cells_may_hold_commas_quotation_marks_and_ends_of_lines(rows_of: Rows) -> None:
    data = b'prompt,note\n"a, b","say ""cat"""\n"one\ntwo\n\nthree",x\nb,y\n'
    assert rows_of(CsvReader, data) == [
        (2, {"prompt": "a, b", "note": 'say "cat"'}),
        (3, {"prompt": "one\ntwo\n\nthree", "note": "x"}),
        (7, {"prompt": "b", "note": "y"}),
    ]


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n\r", "\r\r\n"])
def test_ends_of_lines_inside_a_quoted_cell_stay_as_they_are(rows_of: Rows, end: str) -> None:
    data = f'prompt,note\r\n"one{end}two",x\r\n'.encode()
    assert [row["prompt"] for _, row in rows_of(CsvReader, data)] == [f"one{end}two"]


@pytest.mark.parametrize(
    "bad", [b'"a"b,1', b'"a""', b'"a" ,1', b"a\rb,1"], ids=["after", "open", "space", "return"]
)
def test_quotation_that_breaks_the_rules_is_a_problem_of_that_row(
    rows_of: Rows, bad: bytes
) -> None:
    rows = rows_of(CsvReader, b"prompt,n\na,1\n" + bad)
    assert rows[0] == (2, {"prompt": "a", "n": "1"})
    assert rows[1][0] == 3
    assert rows[1][1].startswith("None: is not CSV: ")


@pytest.mark.parametrize(
    ("first", "said"),
    [(b'"\xff one', "None: is not UTF-8: byte 2 is 0xff"), (b'"o\xff,""', "None: is not UTF-8")],
)
def test_a_bad_line_that_opens_a_quoted_cell_takes_no_rows_apart(
    rows_of: Rows, first: bytes, said: str
) -> None:
    rows = rows_of(CsvReader, b"prompt,n\n" + first + b'\ntwo",1\nb,2\n')
    assert rows[0][0] == 2
    assert rows[0][1].startswith(said)
    assert rows[1:] == [(4, {"prompt": "b", "n": "2"})]


def test_a_bad_line_inside_a_quoted_cell_spoils_that_row_alone(rows_of: Rows) -> None:
    rows = rows_of(CsvReader, b'prompt,n\n"one\ntw\xe9\nthree",1\nb,2\n')
    assert rows == [
        (2, "None: is not UTF-8: byte 3 is 0xe9"),
        (5, {"prompt": "b", "n": "2"}),
    ]


def test_a_line_inside_a_quoted_cell_that_is_too_long_ends_the_row(rows_of: Rows) -> None:
    data = b'prompt,n\n"one\n' + b"x" * 200 + b"\na,1\nb,2\n"
    rows = rows_of(CsvReader, data, max_row_bytes=100)
    assert rows == [(2, TOO_LONG), (4, {"prompt": "a", "n": "1"}), (5, {"prompt": "b", "n": "2"})]


def test_a_quotation_mark_that_is_never_closed_costs_no_memory() -> None:
    data = b'prompt,n\nb,"open\n' + b'","xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n' * 100_000
    reader = CsvReader(io.BytesIO(data), Problems("a"), max_row_bytes=1 << 16)
    tracemalloc.start()
    bad = sum(isinstance(row, FieldError) for _, row in reader.rows())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert bad
    assert peak < 8 << 20


def test_a_row_may_be_exactly_as_long_as_allowed(rows_of: Rows) -> None:
    for row in (b"x" * 100, b'"' + b"x" * 49 + b"\n" + b"y" * 48 + b'"'):
        assert len(rows_of(CsvReader, b"prompt\n" + row + b"\n", max_row_bytes=100)) == 1
    for row in (b"x" * 101, b'"' + b"x" * 49 + b"\n" + b"y" * 49 + b'"'):
        (bad,) = rows_of(CsvReader, b"prompt\n" + row + b"\n", max_row_bytes=100)
        assert bad == (2, TOO_LONG)


def test_the_parsers_own_limit_is_put_back(rows_of: Rows) -> None:
    before = csv.field_size_limit()
    rows_of(CsvReader, b"prompt\na\n", max_row_bytes=12345)
    assert csv.field_size_limit() == before


def test_a_cell_may_be_longer_than_the_parsers_own_limit(rows_of: Rows) -> None:
    long = "x" * (csv.field_size_limit() + 1)
    assert rows_of(CsvReader, f"prompt\n{long}\n".encode()) == [(2, {"prompt": long})]


@BOTH
def test_a_prompt_of_ten_megabytes_is_refused_and_never_held(
    kind: type[LinesReader], tab: bytes
) -> None:
    data = b"prompt,n\na,1\n" + b"x" * (10 << 20) + b",2\nb,3\n"
    reader = kind(io.BytesIO(data.replace(b",", tab)), Problems("a"), max_row_bytes=1 << 16)
    tracemalloc.start()
    rows = list(reader.rows())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [isinstance(row, FieldError) for _, row in rows] == [False, True, False]
    assert peak < 6 << 20


def test_a_quoted_prompt_of_ten_megabytes_over_many_lines_is_refused_and_never_held() -> None:
    data = b'prompt\n"' + b"a line of prompt\n" * 650_000 + b'"\n'
    reader = CsvReader(io.BytesIO(data), Problems("a"), max_row_bytes=1 << 16)
    tracemalloc.start()
    first = next(reader.rows())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(first[1], FieldError)
    assert "too long" in first[1].message
    assert peak < 6 << 20


# Anything


@BOTH
@given(data=st.binary(max_size=200), header=st.sampled_from([b"", b"prompt\n", b"prompt,a\n"]))
def test_any_bytes_are_rows_or_one_clear_error(
    rows_of: Rows, kind: type[LinesReader], tab: bytes, data: bytes, header: bytes
) -> None:
    try:
        rows = rows_of(kind, header.replace(b",", tab) + data, max_row_bytes=64)
    except ManifestProblems:
        return
    assert len(rows) <= data.count(b"\n") + 1


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=10))
def test_any_text_survives_csv_unchanged(rows_of: Rows, cells: list[tuple[str, str]]) -> None:
    written = io.StringIO(newline="")
    csv.writer(written).writerows([("prompt", "note"), *cells])
    rows = rows_of(CsvReader, written.getvalue().encode())
    assert [(row["prompt"], row["note"]) for _, row in rows] == cells


FLAT = st.text(st.characters(codec="utf-8", exclude_characters="\0\t\n")).filter(
    lambda text: not text.endswith("\r")
)


@given(st.lists(st.tuples(FLAT, FLAT), max_size=10))
def test_any_text_without_tabs_and_ends_of_lines_survives_tsv_unchanged(
    rows_of: Rows, cells: list[tuple[str, str]]
) -> None:
    written = "".join(f"{one}\t{two}\n" for one, two in [("prompt", "note"), *cells])
    rows = rows_of(TsvReader, written.encode())
    assert [(row["prompt"], row["note"]) for _, row in rows] == cells
