"""Rules by which images are hidden by themselves: how long they are kept, or how many bytes."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.contract.errors import NotFoundError
from storage.db.rows import columns_of
from storage.db.tables import retention


class Rule(msgspec.Struct, frozen=True):
    """One rule: the images its query finds are kept so long, or up to so many bytes of them."""

    id: int
    query: str
    keep_seconds: float | None
    max_bytes: int | None
    created_at: float


def add(
    connection: Connection,
    query: str,
    *,
    keep_seconds: float | None,
    max_bytes: int | None,
    now: float,
) -> int:
    """Write a rule; its number."""
    return int(
        connection.execute(
            sa.insert(retention)
            .values(query=query, keep_seconds=keep_seconds, max_bytes=max_bytes, created_at=now)
            .returning(retention.c.id)
        ).scalar_one()
    )


def every(connection: Connection) -> list[Rule]:
    """All rules, the oldest first."""
    found = connection.execute(sa.select(*columns_of(Rule, retention)).order_by(retention.c.id))
    return [Rule(*row) for row in found]


def delete(connection: Connection, number: int) -> None:
    """Remove a rule; `NotFoundError` if there is none of that number."""
    gone = connection.execute(sa.delete(retention).where(retention.c.id == number))
    if not gone.rowcount:
        raise NotFoundError(
            f"no retention rule {number}", hint="list them: rendermill retention list"
        )
