"""Between rows and structs, and what the two databases spell alike but apart."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection


def columns_of(kind: type[msgspec.Struct], table: sa.Table) -> list[sa.ColumnElement[Any]]:
    """The columns of `table` that `kind` has fields for, in the fields' order."""
    return [table.c[name] for name in kind.__struct_fields__]


def upsert(connection: Connection, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    """An insert that may say what to do on conflict, which no common insert can."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)
