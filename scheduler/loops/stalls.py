"""Jobs that cannot go on: found by what the policy would tell every live worker, and said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from scheduler.policy import explain
from storage.contract.claims import FleetPart, OpenGroup
from storage.contract.states import Entity, JobState
from storage.db import fleet as fleets
from storage.db import tables
from storage.db.engine import Ledger
from storage.db.offers import open_groups
from storage.db.transitions import record

STALLED_SECONDS: Final = 120.0
"""Without a lease or an outcome, before a job counts as stalled."""

GROUPS_EXPLAINED: Final = 50
VERB: Final = "stall"


def reasons(connection: sa.Connection, job_id: int) -> list[str]:
    """Why nothing of the job can be claimed by any live worker; empty if something can."""
    found = open_groups(connection, limit=GROUPS_EXPLAINED, job_id=job_id)
    return _reasons(found, fleets.parts(connection))


def report_stalled(ledger: Ledger) -> list[int]:
    """Record an event for each open job that cannot go on, once until it moves again."""
    with ledger.read() as connection:
        quiet = _quiet_jobs(connection, ledger.now() - STALLED_SECONDS)
        why = {job_id: reasons(connection, job_id) for job_id in quiet}
    stalled = [job_id for job_id, said in why.items() if said]
    if stalled:
        with ledger.write() as connection:
            for job_id in stalled:
                detail = "; ".join(why[job_id])
                record(connection, Entity.JOB, job_id, VERB, now=ledger.now(), detail=detail)
    return stalled


def _reasons(found: list[OpenGroup], parts: Sequence[FleetPart]) -> list[str]:
    said: dict[str, None] = {}
    for group in found:
        against = explain(group, parts)
        if not against:
            return []  # this one can be claimed, so the job is not stuck
        said.update(dict.fromkeys(against))
    return list(said)


def _quiet_jobs(connection: sa.Connection, since: float) -> list[int]:
    """Open jobs without a lease, whose last event is older than `since` and not this one."""
    jobs, tasks, events = tables.jobs, tables.tasks, tables.events
    leased = sa.exists().where(tasks.c.job_id == jobs.c.id, tasks.c.state == "leased")
    last = (
        sa.select(events.c.verb, events.c.at)
        .where(events.c.entity == Entity.JOB, events.c.entity_id == jobs.c.id)
        .order_by(events.c.id.desc())
        .limit(1)
    )
    verb = last.with_only_columns(events.c.verb).scalar_subquery()
    at = last.with_only_columns(events.c.at).scalar_subquery()
    recent = sa.exists().where(tasks.c.job_id == jobs.c.id, tasks.c.ended_at > since)
    found = connection.execute(
        sa.select(jobs.c.id).where(
            jobs.c.state == JobState.OPEN, ~leased, ~recent, verb != VERB, at < since
        )
    )
    return list(found.scalars())
