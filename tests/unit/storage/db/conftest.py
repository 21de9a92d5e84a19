"""Fixtures for the tests of the ledger."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from storage.db import tables
from storage.db.engine import Ledger, open_sqlite
from storage.db.schema import ensure_schema
from storage.testing.factories import add_worker
from tests.services.postgres import migrated

Read = Callable[[sa.Connection], Iterable[Any]]


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger, on each kind of database in turn."""
    if request.param == "postgresql":
        yield request.getfixturevalue("postgres_ledger")
        return
    catalog = request.getfixturevalue("migrated_catalog")
    opened = open_sqlite(Path(shutil.copy(catalog, tmp_path / "catalog.db")))
    yield opened
    opened.close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def lasting_ledger(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ledger]:
    """A ledger that all tests of a module share, on each kind of database in turn."""
    if request.param == "postgresql":
        with migrated(request.getfixturevalue("postgres_server")) as opened:
            yield opened
        return
    opened = open_sqlite(tmp_path_factory.mktemp("lasting") / "catalog.db")
    ensure_schema(opened)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_ledger(tmp_path: Path, migrated_catalog: Path) -> Iterator[Ledger]:
    """An empty ledger in a SQLite file, for what is so on SQLite alone."""
    opened = open_sqlite(Path(shutil.copy(migrated_catalog, tmp_path / "catalog.db")))
    yield opened
    opened.close()


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
                table.name: sorted(map(repr, connection.execute(sa.select(table))))
                for table in tables.metadata.sorted_tables
            }

    return read


@pytest.fixture
def plan_of(sqlite_ledger: Ledger) -> Callable[[Read], list[str]]:
    """Tells by which tables and indexes SQLite answers what a function asks of the ledger."""

    def explain(ask: Read) -> list[str]:
        asked: list[tuple[str, Any]] = []

        def note(_connection: Any, _cursor: Any, text: str, values: Any, *_: Any) -> None:
            if text.startswith(("SELECT", "WITH")):
                asked.append((text, values))

        event.listen(sqlite_ledger.engine, "before_cursor_execute", note)
        with sqlite_ledger.read() as connection:
            list(ask(connection))
            event.remove(sqlite_ledger.engine, "before_cursor_execute", note)
            return [
                row.detail
                for text, values in asked
                for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)
            ]

    return explain
