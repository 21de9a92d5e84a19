"""Fixtures for the tests of the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from storage.db import tables
from storage.db.engine import Ledger
from storage.testing.factories import add_worker

Read = Callable[[sa.Connection], Iterable[Any]]


@pytest.fixture
def worker_id(ledger: Ledger) -> int:
    """A registered worker."""
    return add_worker(ledger)


@pytest.fixture
def everything(ledger: Ledger) -> Callable[[], dict[str, list[Any]]]:
    """Reads all rows of all tables, for telling whether anything changed."""

    def read() -> dict[str, list[Any]]:
        with ledger.read() as connection:
            return {
                table.name: sorted(map(tuple, connection.execute(sa.select(table))))
                for table in tables.metadata.sorted_tables
            }

    return read


@pytest.fixture
def plan_of(ledger: Ledger) -> Callable[[Read], list[str]]:
    """Tells by which tables and indexes SQLite answers what a function asks of the ledger."""

    def explain(ask: Read) -> list[str]:
        asked: list[tuple[str, Any]] = []

        def note(_connection: Any, _cursor: Any, text: str, values: Any, *_: Any) -> None:
            if text.startswith("SELECT"):
                asked.append((text, values))

        event.listen(ledger.engine, "before_cursor_execute", note)
        with ledger.read() as connection:
            list(ask(connection))
            event.remove(ledger.engine, "before_cursor_execute", note)
            return [
                row.detail
                for text, values in asked
                for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)
            ]

    return explain
