"""Between rows and structs, and what the two databases spell alike but apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

T = TypeVar("T")


def batched(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The values in runs of at most `size`."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def columns_of(kind: type[msgspec.Struct], table: sa.Table) -> list[sa.ColumnElement[Any]]:
    """The columns of `table` that `kind` has fields for, in the fields' order."""
    return [table.c[name] for name in kind.__struct_fields__]


def upsert(connection: Connection, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    """An insert that may say what to do on conflict, which no common insert can."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def among(
    connection: Connection, column: sa.ColumnElement[int], ids: Sequence[int]
) -> sa.ColumnElement[bool]:
    """Whether a column is one of many numbers: on PostgreSQL as one array, not as many values."""
    if connection.dialect.name == "postgresql":
        return column == sa.any_(sa.literal(list(ids), postgresql.ARRAY(sa.BigInteger)))
    return column.in_(ids)
