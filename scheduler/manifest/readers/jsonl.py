"""JSON lines: one object a line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec

from scheduler.manifest.lines import decoded
from scheduler.manifest.problems import FieldError
from scheduler.manifest.readers.base import LinesReader, Row, Values


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
                values = decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                if line.strip():
                    yield number, FieldError(None, _meaning(line, error))
                continue
            # As many colons as keys: none can be there twice, and no closer look is needed.
            if line.count(b":") != len(values) and (key := _doubled_key(line, values)) is not None:
                yield number, FieldError(key, "is there twice")
            else:
                yield number, values


_KEY_END = re.compile(rb'"\s*:')


def _doubled_key(line: bytes, values: Values) -> str | None:
    """The first key that an object of the line has twice: parsers keep the last of them."""
    tags = values.get("tags")
    keys = len(values) + (len(tags) if isinstance(tags, dict) else 0)
    if len(_KEY_END.findall(line)) == keys:  # all other colons stand in texts
        return None
    doubled: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                doubled.append(key)
            seen.add(key)

    with suppress(RecursionError):  # nested too deeply to be anything but an error later on
        json.loads(line, object_pairs_hook=look)
    return doubled[0] if doubled else None


def _meaning(line: bytes, error: Exception) -> str:
    try:
        decoded(line)
    except ValueError as not_utf8:
        return str(not_utf8)
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    if _has_half_a_pair(line):
        return "holds half of a surrogate pair (\\ud800 to \\udfff), which is no character"
    if isinstance(error, msgspec.ValidationError) and not line.lstrip().startswith(b"{"):
        return f"must be one JSON object ({error})"
    return f"cannot be read as JSON: {error}"


def _has_half_a_pair(line: bytes) -> bool:
    try:
        json.dumps(json.loads(line), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    except (ValueError, RecursionError):
        return False
    return False
