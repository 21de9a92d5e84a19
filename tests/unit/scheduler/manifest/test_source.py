"""Finding out what a file is, and opening the reader for it."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scheduler.manifest.problems import Problems
from scheduler.manifest.readers.jsonl import JsonLinesReader
from scheduler.manifest.readers.parquet import ParquetReader
from scheduler.manifest.readers.table import CsvReader, TsvReader
from scheduler.manifest.readers.text import TextReader
from scheduler.manifest.source import FORMATS, format_of, opened, reader_for, shown_path
from storage.contract.errors import InputError


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a.txt", "txt"),
        ("a.TEXT", "txt"),
        ("dir.csv/a.tsv", "tsv"),
        ("a.b.CSV", "csv"),
        ("a.jsonl", "jsonl"),
        ("a.ndjson", "jsonl"),
        ("a.parquet", "parquet"),
        ("a.pq", "parquet"),
        ("a.yaml", "yaml"),
        ("a.Yml", "yaml"),
    ],
)
def test_the_name_of_a_file_tells_its_format(path: str, kind: str) -> None:
    assert format_of(path, None) == kind


@pytest.mark.parametrize("kind", FORMATS)
def test_a_given_format_beats_the_name(kind: str) -> None:
    assert format_of("a.txt", kind) == kind
    assert format_of("-", kind) == kind


@pytest.mark.parametrize("path", ["a", "a.json", "a.txt.gz", "-", ".csv", ""])
def test_a_name_that_tells_no_format_is_refused_with_all_there_are(path: str) -> None:
    with pytest.raises(InputError, match="cannot tell its format by its name") as caught:
        format_of(path, None)
    assert caught.value.hint == f"name it with --format: {', '.join(FORMATS)}"


def test_an_unknown_format_is_refused_with_all_there_are() -> None:
    with pytest.raises(InputError, match="no format 'json'; allowed: txt, csv, tsv, jsonl, parq"):
        format_of("a.txt", "json")


def test_a_file_is_opened_and_closed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"a cat\n")
    with opened(str(tmp_path / "a.txt")) as stream:
        assert stream.read() == b"a cat\n"
    assert stream.closed


def test_standard_input_is_read_and_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    given = io.BytesIO(b"a cat\n")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=given))
    with opened("-") as stream:
        assert stream.read() == b"a cat\n"
    assert not given.closed


def test_a_file_that_is_not_there_is_refused() -> None:
    said = r"^nowhere/a\.csv: there is no such file$"
    with pytest.raises(InputError, match=said), opened("nowhere/a.csv"):
        pass


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Is a directory"), opened(str(tmp_path)):
        pass


@pytest.mark.parametrize("name", ["a\0b.csv", "a" * 5000 + ".csv"], ids=["NUL", "long"])
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    with pytest.raises(InputError), opened(name):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to the superuser")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"prompt\n")
    (tmp_path / "a.csv").chmod(0)
    with pytest.raises(InputError, match="Permission denied"), opened(str(tmp_path / "a.csv")):
        pass


@pytest.mark.parametrize(
    ("kind", "reader"),
    [
        ("txt", TextReader),
        ("csv", CsvReader),
        ("tsv", TsvReader),
        ("jsonl", JsonLinesReader),
        ("parquet", ParquetReader),
    ],
)
def test_each_format_has_its_reader(kind: str, reader: type[Any]) -> None:
    made = reader_for("a", kind, io.BytesIO(), Problems("a"), max_row_bytes=10)
    assert type(made) is reader


def test_parquet_cannot_come_from_standard_input() -> None:
    with pytest.raises(InputError, match="Parquet cannot be read from standard input"):
        reader_for("-", "parquet", io.BytesIO(), Problems("-"), max_row_bytes=10)


@pytest.mark.parametrize(
    ("path", "shown"), [("a/日本.txt", "a/日本.txt"), ("a\udcff.txt", "a\ufffd.txt")]
)
def test_a_path_can_be_written_down_whatever_its_bytes(path: str, shown: str) -> None:
    assert shown_path(path) == shown
    assert shown_path(path).encode()
