"""Jobs that cannot go on: found by what the policy would tell every live worker, and said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from scheduler.policy import explain
from storage.contract.claims import FleetPart, OpenGroup
from storage.contract.states import Entity, JobState, TaskState
from storage.db import fleet as fleets
from storage.db import tables
from storage.db.engine import Ledger
from storage.db.offers import open_groups
from storage.db.transitions import record

STALLED_SECONDS: Final = 120.0
"""Without a lease or an outcome, before a job counts as stalled."""

GROUPS_EXPLAINED: Final = 50
VERB: Final = "stall"


def reasons(connection: sa.Connection, job_id: int, *, now: float) -> list[str]:
    """Why nothing of the job can be claimed by any live worker; empty if something can."""
    return _reasons(_shown(connection, job_id), fleets.parts(connection, now=now))


def report_stalled(ledger: Ledger) -> list[int]:
    """Record an event for each open job that cannot go on, once until it moves again."""
    with ledger.read() as connection:
        now = ledger.now()
        quiet = _quiet_jobs(connection, now - STALLED_SECONDS)
        live = fleets.parts(connection, now=now) if quiet else ()
        why = {job_id: _reasons(_shown(connection, job_id), live) for job_id in quiet}
    stalled = [job_id for job_id, said in why.items() if said]
    if stalled:
        with ledger.write() as connection:
            for job_id in stalled:
                detail = "; ".join(why[job_id])
                record(connection, Entity.JOB, job_id, VERB, now=ledger.now(), detail=detail)
    return stalled


def _shown(connection: sa.Connection, job_id: int) -> list[OpenGroup]:
    return open_groups(connection, limit=GROUPS_EXPLAINED, job_id=job_id)


def _reasons(found: list[OpenGroup], parts: Sequence[FleetPart]) -> list[str]:
    said: dict[str, None] = {}
    for group in found:
        against = explain(group, parts)
        if not against:
            return []  # this one can be claimed, so the job is not stuck
        said.update(dict.fromkeys(against))
    return list(said)


def _quiet_jobs(connection: sa.Connection, since: float) -> list[int]:
    """Open jobs where nothing happened after `since`, and that were not said to stall yet.

    Nothing is under lease, and neither the job's last event nor the last end of a task of it is
    younger. Each is found by one look into an index, however long a job's past is.
    """
    jobs, tasks = tables.jobs, tables.tasks
    leased = sa.select(tasks.c.job_id).where(tasks.c.state == TaskState.LEASED)
    claimed_at = _last_task(tasks.c.claimed_at, tasks.c.id)
    ended_at = _last_task(tasks.c.ended_at, tasks.c.ended_at)
    verb, at = _last_event(tables.events.c.verb), _last_event(tables.events.c.at)
    said = sa.and_(verb == VERB, at > sa.func.coalesce(claimed_at, 0.0))
    found = connection.execute(
        sa.select(jobs.c.id)
        .where(
            jobs.c.state == JobState.OPEN,
            jobs.c.id.not_in(leased),
            at < since,
            sa.func.coalesce(ended_at, 0.0) < since,
            ~said,
        )
        .order_by(jobs.c.id)
    )
    return list(found.scalars())


def _last_task(column: sa.Column[float], order: sa.Column[Any]) -> sa.ScalarSelect[float]:
    of_job = sa.select(column).where(tables.tasks.c.job_id == tables.jobs.c.id, column.is_not(None))
    return of_job.order_by(order.desc()).limit(1).scalar_subquery()


def _last_event(column: sa.ColumnElement[Any]) -> sa.ScalarSelect[Any]:
    events = tables.events
    of_job = sa.select(column).where(
        events.c.entity == Entity.JOB, events.c.entity_id == tables.jobs.c.id
    )
    return of_job.order_by(events.c.id.desc()).limit(1).scalar_subquery()
