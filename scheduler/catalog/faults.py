"""Faults of a query, each with the column it is at."""

from __future__ import annotations

from typing import Final

from storage.contract.errors import QueryError

_SHOWN: Final = 60


def fault(query: str, at: int, said: str, *, hint: str | None = None) -> QueryError:
    """The error that says what is wrong at place `at` of the query, counted from 0."""
    at = max(0, min(at, len(query)))
    first = max(0, at - _SHOWN // 2)
    shown = query[first : first + _SHOWN]
    printable = "".join(c if c.isprintable() else "�" for c in shown)
    lead = "…" if first else ""
    tail = "…" if first + _SHOWN < len(query) else ""
    caret = " " * (len(lead) + at - first) + "^"
    return QueryError(
        f"query, column {at + 1}: {said}\n  {lead}{printable}{tail}\n  {caret}", hint=hint
    )
