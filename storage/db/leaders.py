"""Named leases: of several schedulers, one leads each loop, and another when it falls silent."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.db.rows import upsert
from storage.db.tables import leaders


class Holder(NamedTuple):
    """Who leads, and until when unless it renews."""

    holder: str
    expires_at: float


def take(connection: Connection, name: str, holder: str, *, now: float, seconds: float) -> bool:
    """Become the leader, or stay it, for so many seconds; False if another one leads."""
    insert = upsert(connection, leaders).values(name=name, holder=holder, expires_at=now + seconds)
    taken = connection.execute(
        insert.on_conflict_do_update(
            index_elements=["name"],
            set_={"holder": holder, "expires_at": now + seconds},
            where=sa.or_(leaders.c.holder == holder, leaders.c.expires_at <= now),
        ).returning(leaders.c.holder)
    )
    return taken.first() is not None


def renew(connection: Connection, name: str, holder: str, *, now: float, seconds: float) -> bool:
    """Lead on, if nobody else took over; False means to stop at once."""
    changed = connection.execute(
        sa.update(leaders)
        .where(leaders.c.name == name, leaders.c.holder == holder)
        .values(expires_at=now + seconds)
    )
    return changed.rowcount == 1


def release(connection: Connection, name: str, holder: str) -> None:
    """Let another lead at once; nothing happens if `holder` leads no more."""
    connection.execute(
        sa.update(leaders)
        .where(leaders.c.name == name, leaders.c.holder == holder)
        .values(expires_at=0.0)
    )


def holder(connection: Connection, name: str) -> Holder | None:
    """Who led last, and until when its lease lasts or lasted."""
    row = connection.execute(
        sa.select(leaders.c.holder, leaders.c.expires_at).where(leaders.c.name == name)
    ).first()
    return Holder(*row) if row else None
