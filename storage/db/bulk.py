"""Writing many rows at once, past the object layers.

SQLAlchemy's own executemany builds a dictionary and runs type processors per row; the rows
recorded here are made of plain values in column order, so the driver can take them as they
are: on SQLite as one executemany, on PostgreSQL as one COPY.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

_COPY_FROM = 8
"""Fewer rows are cheaper as plain inserts: starting a COPY costs a round trip more."""


def insert_rows(
    connection: Connection,
    table: sa.Table,
    columns: tuple[str, ...],
    rows: Sequence[tuple[Any, ...]],
) -> None:
    """Insert `rows`, each a tuple in the order of `columns`, in one call of the driver."""
    if not rows:
        return
    if connection.dialect.name == "postgresql" and len(rows) >= _COPY_FROM:
        _copy(connection, table, columns, rows)
    else:
        statement = _insert(table, columns, connection.dialect.name)
        connection.exec_driver_sql(statement, list(rows))


def _copy(
    connection: Connection,
    table: sa.Table,
    columns: tuple[str, ...],
    rows: Iterable[tuple[Any, ...]],
) -> None:
    driver_connection: Any = connection.connection.driver_connection
    try:
        with (
            driver_connection.cursor() as cursor,
            cursor.copy(f"COPY {_target(table, columns)} FROM STDIN") as copy,
        ):
            for row in rows:
                copy.write_row(row)
    except driver_connection.Error as error:
        raise _wrapped(connection, error) from error


def _wrapped(connection: Connection, error: Exception) -> Exception:
    """The driver's error as SQLAlchemy would have raised it."""
    driver = connection.dialect.dbapi
    assert driver is not None  # noqa: S101 - for the type checker
    return sa.exc.DBAPIError.instance("COPY", None, error, driver.Error, dialect=connection.dialect)


@lru_cache(maxsize=64)
def _insert(table: sa.Table, columns: tuple[str, ...], dialect: str) -> str:
    mark = "?" if dialect == "sqlite" else "%s"
    # Names come from the table's definition, never from outside.
    return f"INSERT INTO {_target(table, columns)} VALUES ({', '.join([mark] * len(columns))})"  # noqa: S608


@lru_cache(maxsize=64)
def _target(table: sa.Table, columns: tuple[str, ...]) -> str:
    """The table with its columns in that order, quoted."""
    missing = [name for name in columns if name not in table.c]
    if missing:
        raise KeyError(f"{table.name} has no columns {missing}")
    names = ", ".join(f'"{name}"' for name in columns)
    return f'"{table.name}" ({names})'
