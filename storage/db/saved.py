"""Queries kept under a name."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.contract.errors import NotFoundError
from storage.db.rows import upsert
from storage.db.tables import saved_queries


class SavedQuery(msgspec.Struct, frozen=True):
    """A row of the table."""

    name: str
    query: str
    created_at: float


def save(connection: Connection, name: str, query: str, *, now: float) -> None:
    """Keep it, in place of one of the same name."""
    statement = upsert(connection, saved_queries).values(name=name, query=query, created_at=now)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["name"], set_={"query": query, "created_at": now}
        )
    )


def find(connection: Connection, name: str) -> str | None:
    """The text kept under that name."""
    return connection.execute(
        sa.select(saved_queries.c.query).where(saved_queries.c.name == name)
    ).scalar()


def every(connection: Connection) -> list[SavedQuery]:
    """All of them, by name."""
    found = connection.execute(sa.select(saved_queries).order_by(saved_queries.c.name))
    return [SavedQuery(*row) for row in found]


def delete(connection: Connection, name: str) -> None:
    """Keep it no longer; `NotFoundError` if there is none."""
    gone = connection.execute(sa.delete(saved_queries).where(saved_queries.c.name == name))
    if not gone.rowcount:
        raise NotFoundError(
            f"no query is saved as {name}", hint="see what there is: rendermill query list"
        )
