"""Fixtures for the tests of readers."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from scheduler.manifest.problems import FieldError, Problems
from scheduler.manifest.readers.base import LinesReader, Values


@pytest.fixture(scope="session")
def rows_of() -> Callable[..., list[tuple[int, Values | str]]]:
    """Reads bytes with a reader of lines; what cannot be read is there as its message."""

    def read(
        kind: type[LinesReader], data: bytes, *, max_row_bytes: int = 1 << 20
    ) -> list[tuple[int, Values | str]]:
        reader = kind(io.BytesIO(data), Problems("a"), max_row_bytes=max_row_bytes)
        return [
            (line, f"{row.field}: {row.message}" if isinstance(row, FieldError) else row)
            for line, row in reader.rows()
        ]

    return read
