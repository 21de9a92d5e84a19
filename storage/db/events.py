"""What happened to jobs, tasks and workers, in the order in which it became known."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.contract.states import Entity
from storage.db.rows import columns_of
from storage.db.tables import events, tasks


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

    entity: str | None = None
    entity_id: int | None = None
    job_id: int | None = None  #: events of the job itself and of its tasks
    worker_id: int | None = None  #: events of the worker itself and of its tasks
    verbs: tuple[str, ...] = ()


_EVENT = columns_of(Event, events)


def page(
    connection: Connection,
    wanted: EventFilter | None = None,
    *,
    after: int = 0,
    limit: int,
) -> list[Event]:
    """Events in order; `after` is the id the last page ended with.

    Whoever follows the events misses none: on PostgreSQL an id may become visible after a
    higher one, so an event waits here until all transactions that may have got a lower one
    have ended.
    """
    statement = _events(wanted).where(events.c.id > after).order_by(events.c.id).limit(limit)
    if connection.dialect.name == "postgresql":
        statement = statement.where(_settled())
    return [Event(*row) for row in connection.execute(statement)]


def latest(connection: Connection, wanted: EventFilter | None = None, *, limit: int) -> list[Event]:
    """The last events, in order; `page` goes on after the last of them."""
    statement = _events(wanted).order_by(events.c.id.desc()).limit(limit)
    if wanted is not None and wanted.job_id is not None:
        statement = statement.where(events.c.id.in_(_last_of_job(wanted.job_id, limit)))
    if connection.dialect.name == "postgresql":
        statement = statement.where(_settled())
    return [Event(*row) for row in reversed(connection.execute(statement).all())]


def _last_of_job(job_id: int, limit: int) -> sa.Select[Any]:
    """The events among which a job's last ones are: its own, and those of its last tasks.

    A task begins once and ends once, so its last `limit` events are of the tasks that began or
    ended last. To look for them from the newest event of all on would take a whole farm's past.
    """
    of_job = sa.select(tasks.c.id).where(tasks.c.job_id == job_id)
    begun = of_job.order_by(tasks.c.id.desc()).limit(limit).subquery()
    ended = of_job.where(tasks.c.ended_at.is_not(None)).order_by(tasks.c.ended_at.desc())
    some = sa.union(sa.select(begun.c.id), sa.select(ended.limit(limit).subquery().c.id))
    own = sa.select(events.c.id).where(events.c.entity == Entity.JOB, events.c.entity_id == job_id)
    of_tasks = sa.select(events.c.id).where(
        events.c.entity == Entity.TASK, events.c.entity_id.in_(some)
    )
    return sa.select(sa.union_all(own, of_tasks).subquery().c.id)


def _events(wanted: EventFilter | None) -> sa.Select[Any]:
    return sa.select(*_EVENT).where(*_conditions(wanted or EventFilter()))


def _conditions(wanted: EventFilter) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = []
    if wanted.entity is not None:
        found.append(events.c.entity == wanted.entity)
    if wanted.entity_id is not None:
        found.append(events.c.entity_id == wanted.entity_id)
    if wanted.verbs:
        found.append(events.c.verb.in_(wanted.verbs))
    if wanted.job_id is not None:
        found.append(_concerns(Entity.JOB, wanted.job_id, tasks.c.job_id))
    if wanted.worker_id is not None:
        found.append(_concerns(Entity.WORKER, wanted.worker_id, tasks.c.worker_id))
    return found


def _concerns(
    entity: Entity, entity_id: int, owner: sa.ColumnElement[int]
) -> sa.ColumnElement[bool]:
    of_itself = sa.and_(events.c.entity == entity, events.c.entity_id == entity_id)
    task = sa.exists().where(tasks.c.id == events.c.entity_id, owner == entity_id)
    return sa.or_(of_itself, sa.and_(events.c.entity == Entity.TASK, task))


def _settled() -> sa.ColumnElement[bool]:
    """Whether no transaction that might still add a lower id is under way.

    Rows carry the low half of their transaction's number, which comes round after four
    thousand million of them; so what is an hour old is not judged by it.
    """
    return sa.literal_column(
        "(events.xmin::text::bigint"
        " < (pg_snapshot_xmin(pg_current_snapshot())::text::bigint & 4294967295)"
        " OR events.at < extract(epoch FROM now()) - 3600)",
        sa.Boolean,
    )
