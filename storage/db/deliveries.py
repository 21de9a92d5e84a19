"""Web hooks to send: written when something happens, marked as they are tried."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.db.rows import columns_of
from storage.db.tables import deliveries


class Delivery(msgspec.Struct, frozen=True):
    """One message to one address."""

    id: int
    job_id: int
    event: str
    url: str
    body: str
    attempts: int
    next_at: float | None
    delivered_at: float | None
    error: str | None


_DELIVERY = columns_of(Delivery, deliveries)


def add(connection: Connection, *, job_id: int, event: str, url: str, body: str, now: float) -> int:
    """Write a delivery that is due at once; returns its id."""
    delivery_id = connection.execute(
        sa.insert(deliveries)
        .values(job_id=job_id, event=event, url=url, body=body, next_at=now)
        .returning(deliveries.c.id)
    ).scalar_one()
    return int(delivery_id)


def due(connection: Connection, now: float, limit: int) -> list[Delivery]:
    """Deliveries to try now, longest due first."""
    found = connection.execute(
        sa.select(*_DELIVERY)
        .where(deliveries.c.next_at <= now)
        .order_by(deliveries.c.next_at, deliveries.c.id)
        .limit(limit)
    )
    return [Delivery(*row) for row in found]


def mark_sent(connection: Connection, delivery_id: int, now: float) -> None:
    """It arrived."""
    connection.execute(
        sa.update(deliveries)
        .where(deliveries.c.id == delivery_id)
        .values(attempts=deliveries.c.attempts + 1, delivered_at=now, next_at=None, error=None)
    )


def mark_failed(
    connection: Connection, delivery_id: int, error: str, next_at: float | None
) -> None:
    """It did not arrive; to be tried again at `next_at`, or never if that is None."""
    connection.execute(
        sa.update(deliveries)
        .where(deliveries.c.id == delivery_id)
        .values(attempts=deliveries.c.attempts + 1, next_at=next_at, error=error)
    )


def of_job(connection: Connection, job_id: int) -> list[Delivery]:
    """All deliveries of a job, oldest first."""
    found = connection.execute(
        sa.select(*_DELIVERY).where(deliveries.c.job_id == job_id).order_by(deliveries.c.id)
    )
    return [Delivery(*row) for row in found]
