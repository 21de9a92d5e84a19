"""Finding out what a file is, and opening the reader for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from scheduler.manifest.problems import Problems
from scheduler.manifest.readers.base import LinesReader, Reader
from scheduler.manifest.readers.jsonl import JsonLinesReader
from scheduler.manifest.readers.parquet import ParquetReader
from scheduler.manifest.readers.table import CsvReader, TsvReader
from scheduler.manifest.readers.text import TextReader
from storage.contract.errors import InputError

STDIN: Final = "-"
JOB_FORMAT: Final = "yaml"
PARQUET_FORMAT: Final = "parquet"

_LINE_READERS: Final[dict[str, type[LinesReader]]] = {
    "txt": TextReader,
    "csv": CsvReader,
    "tsv": TsvReader,
    "jsonl": JsonLinesReader,
}

FORMATS: Final = (*_LINE_READERS, PARQUET_FORMAT, JOB_FORMAT)

_BY_SUFFIX: Final[dict[str, str]] = {f".{name}": name for name in FORMATS} | {
    ".text": "txt",
    ".ndjson": "jsonl",
    ".pq": PARQUET_FORMAT,
    ".yml": JOB_FORMAT,
}


def format_of(path: str, given: str | None) -> str:
    """The format of a manifest: as given, else by the file's name; `InputError` if neither."""
    if given is not None:
        if given not in FORMATS:
            raise InputError(f"no format {given!r}; allowed: {', '.join(FORMATS)}")
        return given
    found = _BY_SUFFIX.get(Path(path).suffix.casefold())
    if found is None:
        raise InputError(
            f"{path}: cannot tell its format by its name",
            hint=f"name it with --format: {', '.join(FORMATS)}",
        )
    return found


def shown_path(path: str) -> str:
    """The path as it can be written down: a file's name need not be UTF-8."""
    return os.fsencode(path).decode(errors="replace")


@contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """The file's bytes (``-``: standard input); `InputError` if it cannot be opened."""
    if path == STDIN:
        yield sys.stdin.buffer
        return
    try:
        file = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path!r} cannot be a file's name") from error
    with file:
        yield file


def reader_for(
    path: str, kind: str, stream: BinaryIO, problems: Problems, *, max_row_bytes: int
) -> Reader:
    """The reader of that format over `stream`."""
    if kind == PARQUET_FORMAT:
        if path == STDIN:
            raise InputError("Parquet cannot be read from standard input; name a file")
        return ParquetReader(Path(path), problems)
    make: Callable[..., LinesReader] = _LINE_READERS[kind]
    return make(stream, problems, max_row_bytes=max_row_bytes)
