"""What readers yield, and what each of them is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Protocol

from scheduler.manifest.lines import LineReader
from scheduler.manifest.problems import FieldError, Problems

Values = dict[str, Any]

#: (line from 1, the row's values by column) or (line, why the row cannot be read)
Row = tuple[int, Values | FieldError]


def doubled(names: Iterable[str]) -> list[str]:
    """Names that are there more than once."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


class Reader(Protocol):
    """A manifest's rows, in order, read once."""

    typed: bool
    """Whether values have types; False where every value is text and an empty one is absent."""

    same_columns: bool
    """Whether all rows have the same columns, so that a wrong one is one problem, not many."""

    def rows(self) -> Iterator[Row]:
        """Every data row, also those that cannot be read, in flat memory."""

    @property
    def digest(self) -> str:
        """SHA-256 of the file, once all rows were read."""

    @property
    def notes(self) -> list[str]:
        """What the user should know about how the file was read."""


class LinesReader:
    """What the readers of text files share: bounded lines and the file's hash."""

    typed = True
    same_columns = False
    _keep_return = False

    def __init__(self, stream: BinaryIO, problems: Problems, *, max_row_bytes: int) -> None:
        self._lines = LineReader(
            stream, problems, max_bytes=max_row_bytes, keep_return=self._keep_return
        )
        self._problems = problems

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return self._lines.digest

    @property
    def notes(self) -> list[str]:
        """Nothing is passed over silently."""
        return []

    def rows(self) -> Iterator[Row]:
        """Every data row."""
        raise NotImplementedError
