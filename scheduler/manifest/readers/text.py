"""Plain text: one prompt a line, as the original scripts' ``--from-file`` reads it.

Blank lines are passed over, with a note: there they became empty prompts, which nobody meant.
"""

from __future__ import annotations

from collections.abc import Iterator

from scheduler.manifest.lines import decoded
from scheduler.manifest.problems import FieldError
from scheduler.manifest.readers.base import LinesReader, Row


class TextReader(LinesReader):
    """Each line that is not blank is a prompt, exactly as it stands."""

    _blank = 0

    @property
    def notes(self) -> list[str]:
        """How many blank lines were passed over."""
        return [f"{self._blank:,} blank lines passed over"] if self._blank else []

    def rows(self) -> Iterator[Row]:
        """One row a line."""
        for number, line in enumerate(self._lines, 1):
            if line is None:
                yield number, FieldError(None, self._lines.too_long)
            elif not line.strip():
                self._blank += 1
            else:
                yield number, _row(line)


def _row(line: bytes) -> dict[str, str] | FieldError:
    try:
        text = decoded(line)
    except ValueError as error:
        return FieldError(None, str(error))
    if not text.isprintable() and any(ord(c) < 32 and c != "\t" for c in text):
        return FieldError(None, "holds control characters; this does not look like text")
    return {"prompt": text}
