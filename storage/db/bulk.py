"""Writing many rows at once, past the object layers.

SQLAlchemy's own executemany builds a dictionary and runs type processors per row; the rows
recorded here are made of plain values in column order, so the driver can take them as they
are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection


def insert_rows(
    connection: Connection,
    table: sa.Table,
    columns: tuple[str, ...],
    rows: Sequence[tuple[Any, ...]],
) -> None:
    """Insert `rows`, each a tuple in the order of `columns`, in one call of the driver."""
    if rows:
        statement = _statement(table, columns, connection.dialect.name)
        connection.exec_driver_sql(statement, list(rows))


@lru_cache(maxsize=64)
def _statement(table: sa.Table, columns: tuple[str, ...], dialect: str) -> str:
    missing = [name for name in columns if name not in table.c]
    if missing:
        raise KeyError(f"{table.name} has no columns {missing}")
    mark = "?" if dialect == "sqlite" else "%s"
    names = ", ".join(f'"{name}"' for name in columns)
    # Names come from the table's definition, never from outside.
    return f'INSERT INTO "{table.name}" ({names}) VALUES ({", ".join([mark] * len(columns))})'  # noqa: S608
