"""Leases of what only one process should do at a time, by name."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.db.tables import leaders


def take(connection: Connection, name: str, holder: str, *, seconds: float, now: float) -> bool:
    """Take or renew the lease `name`; whether `holder` has it until ``now + seconds``."""
    values = {"holder": holder, "expires_at": now + seconds}
    free = sa.or_(leaders.c.holder == holder, leaders.c.expires_at < now)
    changed = connection.execute(
        sa.update(leaders).where(leaders.c.name == name, free).values(**values)
    )
    if changed.rowcount == 1:
        return True
    # The first one ever makes the row; of several at once, the others find it made.
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
    made = connection.execute(
        insert(leaders).values(name=name, **values).on_conflict_do_nothing(index_elements=["name"])
    )
    return made.rowcount == 1


def release(connection: Connection, name: str, holder: str) -> None:
    """Let another take the lease at once; nothing happens if `holder` has it no more."""
    connection.execute(
        sa.update(leaders)
        .where(leaders.c.name == name, leaders.c.holder == holder)
        .values(expires_at=0.0)
    )


def holder(connection: Connection, name: str) -> tuple[str, float] | None:
    """Who took the lease last, and until when; None if nobody ever did."""
    row = connection.execute(sa.select(leaders).where(leaders.c.name == name)).first()
    return (row.holder, row.expires_at) if row else None
