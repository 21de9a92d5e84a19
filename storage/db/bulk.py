"""Writing many rows at once, past the object layers.

SQLAlchemy's own executemany builds a dictionary and runs type processors per row; the rows
recorded here are made of plain values in column order, so the driver can take them as they
are: on SQLite as one executemany, on PostgreSQL as one COPY, in binary where all types of the
columns are known here: numbers are then neither written as text nor read from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

_COPY_FROM = 8
"""Fewer rows are cheaper as plain inserts: starting a COPY costs a round trip more."""


def insert_rows(
    connection: Connection,
    table: sa.Table,
    columns: tuple[str, ...],
    rows: Sequence[Any],
    *,
    as_tuple: Callable[[Any], tuple[Any, ...]] | None = None,
) -> None:
    """Insert `rows`, each a tuple in the order of `columns`, in one call of the driver.

    With `as_tuple` rows are anything it makes such a tuple of, one at a time.
    """
    if not rows:
        return
    values: Iterable[tuple[Any, ...]] = map(as_tuple, rows) if as_tuple else rows
    if connection.dialect.name == "postgresql" and len(rows) >= _COPY_FROM:
        _copy(connection, table, columns, values)
    else:
        statement = _insert(table, columns, connection.dialect.name)
        connection.exec_driver_sql(statement, list(values))


def _copy(
    connection: Connection,
    table: sa.Table,
    columns: tuple[str, ...],
    rows: Iterable[tuple[Any, ...]],
) -> None:
    driver_connection: Any = connection.connection.driver_connection
    target, types = _target(table, columns), _types(table, columns)
    form = " (FORMAT BINARY)" if types else ""
    try:
        with (
            driver_connection.cursor() as cursor,
            cursor.copy(f"COPY {target} FROM STDIN{form}") as copy,
        ):
            if types:
                copy.set_types(types)
            write = copy.write_row
            for row in rows:
                write(row)
    except driver_connection.Error as error:
        raise _wrapped(connection, error) from error


_TYPES: Final = frozenset({"BIGINT", "INTEGER", "DOUBLE PRECISION", "TEXT"})
_POSTGRES: Final = postgresql.dialect()  # type: ignore[no-untyped-call]


@lru_cache(maxsize=64)
def _types(table: sa.Table, columns: tuple[str, ...]) -> tuple[str, ...] | None:
    """PostgreSQL's names of the columns' types; None: one of them has only a text form here."""
    found = tuple(table.c[name].type.compile(dialect=_POSTGRES) for name in columns)
    return tuple(name.lower() for name in found) if _TYPES.issuperset(found) else None


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
