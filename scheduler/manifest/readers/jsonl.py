"""JSON lines: one object a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from scheduler.manifest.lines import decoded
from scheduler.manifest.problems import FieldError
from scheduler.manifest.readers.base import LinesReader, Row


class JsonLinesReader(LinesReader):
    """Each line that is not blank is one object whose keys are columns."""

    def rows(self) -> Iterator[Row]:
        """One row a line."""
        decode = msgspec.json.Decoder(dict[str, Any]).decode
        for number, line in enumerate(self._lines, 1):
            if line is None:
                yield number, FieldError(None, self._lines.too_long)
                continue
            try:
                yield number, decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                if line.strip():
                    yield number, FieldError(None, _meaning(line, error))


def _meaning(line: bytes, error: Exception) -> str:
    try:
        decoded(line)
    except ValueError as not_utf8:
        return str(not_utf8)
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    if isinstance(error, msgspec.ValidationError):
        return f"must be one JSON object ({error})"
    return f"is not JSON: {error}"
