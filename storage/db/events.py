"""What happened to jobs, tasks and workers: an append-only table, read in order.

Numbers are handed out before a transaction commits, so on a busy PostgreSQL server an event can
appear a moment after one with a larger number; `page` leaves the newest second out for that.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.contract.states import Entity
from storage.db.rows import columns_of
from storage.db.tables import events, tasks

SETTLED_SECONDS = 1.0


class Event(msgspec.Struct, frozen=True):
    """One thing that happened."""

    id: int
    at: float
    entity: str
    entity_id: int
    verb: str
    detail: str | None


class EventFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Conditions an event must meet, all of them."""

    job_id: int | None = None  #: of this job or of its tasks
    entity: Entity | None = None
    verb: str | None = None


_EVENT = columns_of(Event, events)


def page(
    connection: Connection, wanted: EventFilter, *, after: int, limit: int, before: float
) -> Iterator[Event]:
    """Events numbered above `after` that happened before that time, in order."""
    statement = (
        sa.select(*_EVENT)
        .where(events.c.id > after, events.c.at < before, *_conditions(wanted))
        .order_by(events.c.id)
        .limit(limit)
    )
    return (Event(*row) for row in connection.execute(statement))


def latest(connection: Connection, wanted: EventFilter, *, limit: int) -> Iterator[Event]:
    """The last events, in order."""
    statement = (
        sa.select(*_EVENT).where(*_conditions(wanted)).order_by(events.c.id.desc()).limit(limit)
    )
    return (Event(*row) for row in reversed(connection.execute(statement).all()))


def _conditions(wanted: EventFilter) -> Iterator[sa.ColumnElement[bool]]:
    if wanted.entity is not None:
        yield events.c.entity == wanted.entity
    if wanted.verb is not None:
        yield events.c.verb == wanted.verb
    if wanted.job_id is not None:
        its_tasks = sa.select(tasks.c.id).where(tasks.c.job_id == wanted.job_id)
        yield sa.or_(
            sa.and_(events.c.entity == Entity.JOB, events.c.entity_id == wanted.job_id),
            sa.and_(events.c.entity == Entity.TASK, events.c.entity_id.in_(its_tasks)),
        )
