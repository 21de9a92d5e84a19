"""Reading result rows into frozen structs whose fields are named like the columns."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa


def columns_of(kind: type[msgspec.Struct], table: sa.Table) -> list[sa.ColumnElement[Any]]:
    """The columns of `table` that `kind` has fields for, in the fields' order."""
    return [table.c[name] for name in kind.__struct_fields__]
