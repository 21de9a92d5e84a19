"""Comma- and tab-separated tables with a header line.

A CSV file quotes as RFC 4180 says. A TSV file does not quote at all: PartiPrompts and most
other prompt sets have bare quotation marks in their cells.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator

from scheduler.manifest.lines import decoded
from scheduler.manifest.problems import FieldError, Problems
from scheduler.manifest.readers.base import LinesReader, Row, Values, doubled

_HINT = "the first line must name the columns, 'prompt' among them"

Record = tuple[int, list[str] | FieldError]


class _Header:
    """The table's columns, and how a line of cells becomes a row."""

    def __init__(self, cells: list[str], problems: Problems) -> None:
        self.names = [cell.strip() for cell in cells]
        fault = self._fault()
        if fault:
            raise problems.fatal(fault, hint=_HINT)

    def row(self, cells: list[str]) -> Values | FieldError:
        if len(cells) != len(self.names):
            return FieldError(None, f"has {len(cells)} cells; the header has {len(self.names)}")
        return dict(zip(self.names, cells, strict=True))

    def _fault(self) -> str | None:
        if not all(name.isprintable() for name in self.names):
            return "is not a text table: its first line holds control characters"
        if not all(self.names):
            return f"has no name for column {self.names.index('') + 1}"
        twice = doubled(self.names)
        return f"has two columns named {', '.join(twice)}" if twice else None


class _TableReader(LinesReader):
    """The first record is the header, each further one a row."""

    typed = False
    same_columns = True

    def rows(self) -> Iterator[Row]:
        """One row a record; its line is the one it starts on."""
        header: _Header | None = None
        for line, cells in self._records():
            if header is None:
                if isinstance(cells, FieldError):
                    raise self._problems.fatal(f"line {line} {cells.message}", hint=_HINT)
                header = _Header(cells, self._problems)
            else:
                yield line, cells if isinstance(cells, FieldError) else header.row(cells)

    def _records(self) -> Iterator[Record]:
        raise NotImplementedError

    def _text(self, line: bytes | None) -> str:
        """The line's text; `FieldError` if it cannot be one."""
        if line is None:
            raise FieldError(None, self._lines.too_long)
        try:
            text = decoded(line)
        except ValueError as error:
            raise FieldError(None, str(error)) from None
        if "\0" in text:
            raise FieldError(None, "holds a NUL character; this does not look like text")
        return text


class TsvReader(_TableReader):
    """Tabs part cells, ends of lines part rows, nothing is quoted."""

    def _records(self) -> Iterator[Record]:
        for number, line in enumerate(self._lines, 1):
            if line == b"":
                continue
            try:
                yield number, self._text(line).split("\t")
            except FieldError as error:
                yield number, error


class CsvReader(_TableReader):
    """Commas part cells; a quoted cell may hold commas, quotation marks and ends of lines."""

    _keep_return = True  # a carriage return may be part of a quoted cell
    _bad_line: FieldError | None = None
    _record_bytes = 0

    def _records(self) -> Iterator[Record]:
        limit = csv.field_size_limit(self._lines.max_bytes)
        try:
            yield from self._parsed()
        finally:
            csv.field_size_limit(limit)

    def _parsed(self) -> Iterator[Record]:
        parser = csv.reader(self._texts(), strict=True)
        while True:
            line = parser.line_num + 1
            self._bad_line, self._record_bytes = None, 0
            try:
                cells = next(parser, None)
            except csv.Error as error:
                yield line, self._bad_line or FieldError(None, f"is not CSV: {error}")
                continue
            if cells is None:
                return
            if cells:
                yield line, self._bad_line or cells

    def _texts(self) -> Iterator[str]:
        """Lines for the parser; one that cannot be read is noted as making its record bad."""
        for line in self._lines:
            goes_on = self._record_bytes > 0  # a line belongs to the last one's quoted cell
            self._record_bytes += 1 + (self._lines.max_bytes if line is None else len(line))
            if line is not None and self._record_bytes <= self._lines.max_bytes + 1:
                yield self._readable(line) + "\n"
            else:
                self._bad_line = FieldError(None, self._lines.too_long)
                yield '"\n' if goes_on else "-\n"  # ends the record

    def _readable(self, line: bytes) -> str:
        """The line's text. One with bad bytes keeps its quotation marks, so records stay apart."""
        try:
            return self._text(line)
        except FieldError as error:
            self._bad_line = self._bad_line or error
            return line.decode(errors="replace")
