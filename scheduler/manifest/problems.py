"""Collecting what is wrong with a manifest, as ``file:line: field: what, what is allowed``."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from storage.contract.errors import ManifestError

KEPT = 100
"""Problems kept for showing; the rest is only counted, so that memory stays flat."""


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong."""

    file: str
    line: int | None
    field: str | None
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return (
            f"{place}: {self.field}: {self.message}" if self.field else f"{place}: {self.message}"
        )


class Rejected(msgspec.Struct, frozen=True):
    """A row that was refused, as recorded under ``--skip-invalid``."""

    row: int
    line: int
    problems: tuple[str, ...]


class FieldError(ValueError):
    """A value is wrong; the message says what is allowed."""

    def __init__(self, field: str | None, message: str) -> None:
        self.field = field
        self.message = message
        super().__init__(message)


class Problems:
    """Counts problems, keeps the first `KEPT`, and passes refused rows on if they are skipped."""

    def __init__(self, file: str, *, on_rejected: Callable[[Rejected], None] | None = None) -> None:
        """`on_rejected` takes rows to be recorded; None means that any problem refuses all."""
        self.file = file
        self.first: list[Problem] = []
        self.total = 0
        self.rejected_rows = 0
        self._on_rejected = on_rejected

    @property
    def skips_rows(self) -> bool:
        """Whether a bad row leaves the others to be rendered."""
        return self._on_rejected is not None

    def add(self, line: int | None, field: str | None, message: str) -> Problem:
        """Note a problem that is not one row's alone."""
        problem = Problem(self.file, line, field, message)
        self.total += 1
        if len(self.first) < KEPT:
            self.first.append(problem)
        return problem

    def add_last(self, message: str) -> None:
        """Note what ends the reading; it is shown however many problems came before."""
        self.total += 1
        self.first.append(Problem(self.file, None, None, message))

    def reject(self, row: int, line: int, errors: list[FieldError]) -> None:
        """Note that a row is refused, for these reasons."""
        noted = [self.add(line, error.field, error.message) for error in errors]
        self.rejected_rows += 1
        if self._on_rejected is not None:
            texts = tuple(str(problem) for problem in noted)
            self._on_rejected(Rejected(row, line, texts))

    def fatal(self, message: str, *, hint: str | None = None) -> ManifestProblems:
        """The error for a file that cannot be read at all."""
        self.add_last(message)
        return self.refused(hint=hint)

    def refused(self, *, hint: str | None = None) -> ManifestProblems:
        """The error that shows what was collected."""
        return ManifestProblems(self, hint=hint)


class ManifestProblems(ManifestError):
    """The manifest has problems; nothing was written."""

    def __init__(self, problems: Problems, *, hint: str | None = None) -> None:
        self.problems = problems
        lines = [str(problem) for problem in problems.first]
        if problems.total > len(lines):
            lines.append(f"... and {problems.total - len(lines):,} more problems")
        super().__init__("\n".join(lines), hint=hint)
