"""Use cases of steering: jobs and workers, and how a farm stands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
import sqlalchemy as sa

from scheduler.loops.run import LEADER
from scheduler.loops.stalls import reasons
from storage.contract.errors import InputError, RendermillError, StaleTransition
from storage.contract.states import JobState, TaskState, WorkerState
from storage.db import events, jobs, leaders, steering, tables, workers
from storage.db import fleet as fleets
from storage.db.engine import Ledger
from storage.db.events import Event, EventFilter
from storage.db.jobs import Job
from storage.db.workers import Worker
from storage.opening import Mill, open_tickets
from storage.settings import shown

RATE_SECONDS: Final = 60.0


class ClassStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The workers of one class, and the tickets that wait for them."""

    workers: int
    idle: int
    tickets: int | None = None


class FarmStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A farm at a glance."""

    ledger: str
    broker: str
    storage: str
    leader: str
    jobs: dict[str, int]
    items_left: int
    images_per_second: float
    classes: dict[str, ClassStatus]


def pause(ledger: Ledger, reference: str) -> Job:
    """Let nothing more of the job be claimed."""
    with _changing(ledger, reference, "paused") as (connection, job, now):
        steering.pause(connection, job.id, now=now)
        return jobs.get(connection, job.id)


def resume(ledger: Ledger, reference: str) -> Job:
    """Let a paused job be claimed again; one that is open stays so."""
    with _changing(ledger, reference, "resumed") as (connection, job, now):
        if job.state != JobState.OPEN:
            steering.resume(connection, job.id, now=now)
        return jobs.get(connection, job.id)


def cancel(ledger: Ledger, reference: str) -> Job:
    """End the job; what is rendered stays."""
    with _changing(ledger, reference, "cancelled") as (connection, job, now):
        steering.cancel(connection, job.id, now=now)
        return jobs.get(connection, job.id)


def set_priority(ledger: Ledger, reference: str, priority: int) -> Job:
    """Change whose turn is next."""
    with _changing(ledger, reference, "given another priority") as (connection, job, now):
        steering.set_priority(connection, job.id, priority, now=now)
        return jobs.get(connection, job.id)


def retry_failed(ledger: Ledger, reference: str) -> tuple[Job, int]:
    """Make failed items claimable again; the job, and how many they are."""
    with _changing(ledger, reference, "retried") as (connection, job, now):
        count = steering.retry_failed(connection, job.id, now=now)
        if job.state == JobState.CANCELLED and not count:
            steering.reopen(connection, job.id, now=now)
        return jobs.get(connection, job.id), count


def why(mill: Mill, reference: str) -> list[str]:
    """Why the job does not go on, or how it stands if it does."""
    with mill.ledger.read() as connection:
        job = jobs.find(connection, reference)
        if job.state != JobState.OPEN:
            return [f"{job.name} is {job.state}{_next_step(job)}"]
        against = reasons(connection, job.id, now=mill.ledger.now())
        at_work = _at_work(connection, job.id)
        leader = leaders.holder(connection, LEADER)
    if against:
        return [f"{job.name} waits:", *against]
    if at_work:
        workers_are = "1 worker is" if at_work == 1 else f"{at_work} workers are"
        return [f"{job.name} goes on: {workers_are} at it, {job.remaining:,} items left"]
    if mill.connections.broker_url is not None and not _leads(leader, mill.ledger.now()):
        return [
            f"{job.name} waits:",
            "no scheduler leads, so no worker is woken; start one with: rendermill scheduler",
        ]
    return [f"{job.name} can be claimed; it waits for its turn among other jobs"]


def _next_step(job: Job) -> str:
    match job.state:
        case JobState.PAUSED:
            return f"; let it go on with: rendermill resume {job.name}"
        case JobState.CANCELLED:
            return f"; let it go on with: rendermill retry {job.name}"
        case JobState.FINISHED if job.failed:
            failed = f"{job.failed:,} items failed"
            return f"; {failed}; render them again with: rendermill retry {job.name}"
    return ""


def _leads(holder: leaders.Holder | None, now: float) -> bool:
    return holder is not None and holder.expires_at >= now


def present_workers(ledger: Ledger) -> list[Worker]:
    """Workers that have not left."""
    with ledger.read() as connection:
        return list(workers.present(connection))


def drain(ledger: Ledger, reference: str) -> Worker:
    """Let a worker finish its task and claim nothing more."""
    with _present_worker(ledger, reference) as (connection, worker):
        if worker.state != WorkerState.DRAINING:
            workers.drain(connection, worker.id, now=ledger.now(), note="drained by an operator")
        return workers.find(connection, str(worker.id))


def wake(ledger: Ledger, reference: str) -> Worker:
    """Let a drained worker claim again."""
    with _present_worker(ledger, reference) as (connection, worker):
        if worker.state != WorkerState.LIVE:
            workers.wake(connection, worker.id, now=ledger.now())
        return workers.find(connection, str(worker.id))


@contextmanager
def _present_worker(ledger: Ledger, reference: str) -> Iterator[tuple[sa.Connection, Worker]]:
    """A transaction on the newest worker of that name; one that left cannot be steered."""
    with ledger.write() as connection:
        worker = workers.find(connection, reference)
        if worker.state == WorkerState.GONE:
            raise InputError(
                f"{worker.name} is gone", hint="list those that are here: rendermill workers"
            )
        yield connection, worker


def status(mill: Mill) -> FarmStatus:
    """How the farm stands. An unreachable broker is said, not raised."""
    with mill.ledger.read() as connection:
        fleet = fleets.by_class(connection, now=mill.ledger.now())
        counts = _jobs_by_state(connection)
        left = _items_left(connection)
        rate = _rate(connection, mill.ledger.now())
        leader = leaders.holder(connection, LEADER)
    broker, tickets = _broker(mill)
    now = mill.ledger.now()
    return FarmStatus(
        ledger=mill.ledger.where,
        broker=broker,
        storage=shown(mill.connections.storage_url or "") or str(mill.home),
        leader=leader.holder if leader and _leads(leader, now) else "no scheduler leads",
        jobs=counts,
        items_left=left,
        images_per_second=rate,
        classes={
            label: ClassStatus(workers=one.live, idle=one.idle, tickets=tickets.get(label))
            for label, one in fleet.items()
        },
    )


def latest_events(ledger: Ledger, job: str | None, *, limit: int) -> list[Event]:
    """The last events, oldest first."""
    with ledger.read() as connection:
        return list(events.latest(connection, _filter(connection, job), limit=limit))


def events_after(ledger: Ledger, job: str | None, *, after: int, limit: int) -> list[Event]:
    """Events that came after that one, oldest first."""
    with ledger.read() as connection:
        wanted = _filter(connection, job)
        return events.page(connection, wanted, after=after, limit=limit)


@contextmanager
def _changing(
    ledger: Ledger, reference: str, what: str
) -> Iterator[tuple[sa.Connection, Job, float]]:
    """A transaction on the job of that name; a step it cannot take is the user's to know."""
    with ledger.write() as connection:
        job = jobs.find(connection, reference)
        try:
            yield connection, job, ledger.now()
        except StaleTransition as error:
            said = f"{job.name} is {job.state}"
            raise InputError(f"{said}; it cannot be {what}", hint=_hint(job)) from error


def _hint(job: Job) -> str:
    """What can be done with a job in that state."""
    if job.state == JobState.CANCELLED:
        return f"let it go on with: rendermill retry {job.name}"
    if job.state == JobState.FINISHED:
        return f"items that failed are rendered again with: rendermill retry {job.name}"
    return f"see how it stands: rendermill job {job.name}"


def _jobs_by_state(connection: sa.Connection) -> dict[str, int]:
    found = connection.execute(
        sa.select(tables.jobs.c.state, sa.func.count()).group_by(tables.jobs.c.state)
    )
    return {row[0]: row[1] for row in found}


def _items_left(connection: sa.Connection) -> int:
    table = tables.jobs
    left = table.c.item_count - table.c.done - table.c.failed
    ongoing = table.c.state.in_((JobState.OPEN, JobState.PAUSED))
    return int(
        connection.execute(
            sa.select(sa.func.coalesce(sa.func.sum(left), 0)).where(ongoing)
        ).scalar()
        or 0
    )


def _rate(connection: sa.Connection, now: float) -> float:
    """Images a second over the last minute, from the tasks that are or were at work in it."""
    table, jobs_ = tables.tasks, tables.jobs
    since = now - RATE_SECONDS
    began = sa.func.coalesce(table.c.started_at, table.c.claimed_at)
    columns = sa.select(table.c.done, began, table.c.ended_at).where(table.c.done > 0)
    recent = sa.or_(jobs_.c.finished_at.is_(None), jobs_.c.finished_at > since)
    ended = sa.and_(
        table.c.job_id.in_(sa.select(jobs_.c.id).where(recent)), table.c.ended_at > since
    )
    total = 0.0
    for where in (table.c.state == TaskState.LEASED, ended):
        for done, began_at, ended_at in connection.execute(columns.where(where)):
            length = max(1e-3, (ended_at or now) - began_at)
            within = (ended_at or now) - max(began_at, since)
            total += done * max(0.0, within) / length
    return total / RATE_SECONDS


def _at_work(connection: sa.Connection, job_id: int) -> int:
    table = tables.tasks
    leased = sa.and_(table.c.job_id == job_id, table.c.state == TaskState.LEASED)
    statement = sa.select(sa.func.count(table.c.worker_id.distinct())).where(leased)
    return connection.execute(statement).scalar_one()


def _broker(mill: Mill) -> tuple[str, dict[str, int]]:
    if mill.connections.broker_url is None:
        return "none: workers look for work by themselves", {}
    tickets = open_tickets(mill.connections.broker_url)
    try:
        return tickets.where, tickets.waiting()
    except RendermillError as error:
        return error.message, {}
    finally:
        tickets.close()


def _filter(connection: sa.Connection, job: str | None) -> EventFilter:
    return EventFilter(job_id=None if job is None else jobs.find(connection, job).id)
