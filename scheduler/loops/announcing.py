"""Turning what happened to jobs into deliveries to the addresses they name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from scheduler.loops.stalls import VERB as STALL
from storage.contract.states import Entity
from storage.db import deliveries
from storage.db.engine import Ledger
from storage.db.tables import deliveries as delivery_table
from storage.db.tables import events, jobs

TOLD: Final = {"finish": "job.done", STALL: "job.stalled"}
"""The verb of a job's event, and what its web hook calls it."""

LOOK_BACK_SECONDS: Final = 7 * 24 * 3600.0
"""A job that ended longer ago is looked at no more, however long no scheduler ran."""


def announce(ledger: Ledger) -> int:
    """Write a delivery for each event of a job that is not told yet; how many those are.

    An event is told if there are as many deliveries of its name as events up to it: both are
    only ever added, in order, under the lock of the job's row.
    """
    now = ledger.now()
    with ledger.read() as connection:
        waiting = _jobs_with_news(connection, now)
    told = 0
    for job_id in waiting:
        with ledger.write() as connection:
            job = connection.execute(
                sa.select(jobs).where(jobs.c.id == job_id).with_for_update()
            ).one()
            for name, event in _news(connection, job_id):
                body = _body(job, name, event)
                deliveries.add(
                    connection, job_id=job_id, event=name, url=job.webhook, body=body, now=now
                )
                told += 1
    return told


def _jobs_with_news(connection: Connection, now: float) -> list[int]:
    counts = [
        _count_of(_happened(verb, jobs.c.id)).scalar_subquery()
        > _told(name, jobs.c.id).scalar_subquery()
        for verb, name in TOLD.items()
    ]
    recent = sa.or_(jobs.c.finished_at.is_(None), jobs.c.finished_at > now - LOOK_BACK_SECONDS)
    found = connection.execute(
        sa.select(jobs.c.id)
        .where(jobs.c.webhook.is_not(None), recent, sa.or_(*counts))
        .order_by(jobs.c.id)
    )
    return list(found.scalars())


JobId = int | sa.ColumnElement[int]


def _happened(verb: str, job_id: JobId) -> sa.ColumnElement[bool]:
    """That an event is one of this kind of that job."""
    return sa.and_(
        events.c.entity == Entity.JOB, events.c.entity_id == job_id, events.c.verb == verb
    )


def _count_of(condition: sa.ColumnElement[bool]) -> sa.Select[int]:
    return sa.select(sa.func.count()).where(condition)


def _told(name: str, job_id: JobId) -> sa.Select[int]:
    """How many deliveries of that name the job has."""
    return _count_of(sa.and_(delivery_table.c.job_id == job_id, delivery_table.c.event == name))


def _news(connection: Connection, job_id: int) -> Iterator[tuple[str, sa.Row[Any]]]:
    """The job's events that are not told yet, with their names."""
    for verb, name in TOLD.items():
        told = connection.execute(_told(name, job_id)).scalar_one()
        found = connection.execute(
            sa.select(events).where(_happened(verb, job_id)).order_by(events.c.id).offset(told)
        )
        yield from ((name, event) for event in found.all())


def _body(job: sa.Row[Any], name: str, event: sa.Row[Any]) -> str:
    facts = {
        "event": name,
        "at": event.at,
        "job": job.name,
        "job_id": job.id,
        "state": job.state,
        "items": job.item_count,
        "done": job.done,
        "failed": job.failed,
        "rejected": job.rejected,
        "submitter": job.submitter,
        "created_at": job.created_at,
        "finished_at": job.finished_at,
        "reason": event.detail,
    }
    return msgspec.json.encode(facts).decode()
