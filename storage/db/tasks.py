"""Tasks and their leases: cutting one at claim time, committing images, ending it.

Every step that a worker takes on a task presents the lease; if it does not match, or the task
has ended, the step raises `LeaseLost` and its transaction leaves no trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.contract.claims import Claim, ClaimedTask
from storage.contract.errors import LeaseLost, StaleTransition
from storage.contract.items import GroupSpec
from storage.contract.outcomes import DIVISIBLE, Failure, Outcome, Reason
from storage.contract.states import Entity, JobState, TaskState
from storage.db import images as image_rows
from storage.db.ranges import (
    Range,
    Returned,
    decode_failures,
    encode_failures,
    halves,
    put_back,
    take_next,
    take_returned,
)
from storage.db.tables import groups, images, jobs, tasks
from storage.db.transitions import advance, record

LAPSES_BEFORE_HALVING = 2

RETRY_SECONDS = 1.0
"""How long a range that failed rests, so that a fault of the moment can pass."""

_SPEC = msgspec.json.Decoder(GroupSpec)


class TaskRef(msgspec.Struct, frozen=True):
    """A task and the lease that gives the right to it."""

    task_id: int
    lease: int


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """What a commit brought to an end."""

    task: bool
    job: bool


def cut(
    connection: Connection,
    claim: Claim,
    *,
    worker_id: int,
    lease: int,
    lease_seconds: float,
    now: float,
) -> ClaimedTask | None:
    """Cut the task that `claim` asks for and lease it to the worker; None if nothing is due."""
    group = connection.execute(
        sa.select(groups, jobs.c.name)
        .join(jobs, jobs.c.id == groups.c.job_id)
        .where(groups.c.id == claim.group_id)
    ).one()
    taken = take_returned(
        connection, group.id, claim.items, batch_size=group.batch_size, now=now
    ) or take_next(connection, group.id, claim.items)
    if taken is None:
        return None
    count = taken.stop_item - taken.first_item
    _move(connection, group.id, claimable=-count, leased=count)
    task_id = connection.execute(
        sa.insert(tasks)
        .values(
            job_id=group.job_id,
            group_id=group.id,
            worker_id=worker_id,
            first_item=taken.first_item,
            stop_item=taken.stop_item,
            state=TaskState.LEASED,
            lease=lease,
            lease_expires_at=now + lease_seconds,
            failures=encode_failures(taken.failures),
            claimed_at=now,
        )
        .returning(tasks.c.id)
    ).scalar_one()
    record(connection, Entity.TASK, task_id, "claim", now=now, detail=f"{count} items")
    return ClaimedTask(
        task_id=task_id,
        lease=lease,
        job_id=group.job_id,
        job_name=group.name,
        group_id=group.id,
        group_first_item=group.first_item,
        first_item=taken.first_item,
        stop_item=taken.stop_item,
        spec=_SPEC.decode(group.spec),
        mode=claim.mode,
        lease_seconds=lease_seconds,
        failures=taken.failures,
    )


def renew(connection: Connection, ref: TaskRef, *, expires_at: float) -> None:
    """Move the end of the lease; called only when the task made progress."""
    changed = connection.execute(
        sa.update(tasks).where(*_held(ref)).values(lease_expires_at=expires_at)
    )
    if changed.rowcount != 1:
        raise LeaseLost


def commit(
    connection: Connection,
    ref: TaskRef,
    rows: Sequence[image_rows.ImageRow],
    *,
    expires_at: float,
    now: float,
) -> Ended:
    """Record finished items: image rows, tags and all counters, if the lease still holds."""
    failed = sum(row.outcome == Outcome.FAILED for row in rows)
    done = len(rows) - failed
    task = connection.execute(
        sa.update(tasks)
        .where(*_held(ref))
        .values(
            done=tasks.c.done + done, failed=tasks.c.failed + failed, lease_expires_at=expires_at
        )
        .returning(tasks)
    ).first()
    if task is None:
        raise LeaseLost
    image_rows.insert(connection, rows)
    _move(connection, task.group_id, leased=-len(rows), done=done, failed=failed)
    job_ended = _count_for_job(connection, task.job_id, done, failed, now)
    task_ended = task.done + task.failed == task.stop_item - task.first_item
    if task_ended:
        advance(connection, Entity.TASK, ref.task_id, "finish", now=now, ended_at=now)
    return Ended(task=task_ended, job=job_ended)


def hand_back(connection: Connection, ref: TaskRef, *, now: float) -> int:
    """Return what is undone without blame (drain, cancel); how many items that is."""
    return _end(connection, ref, "return", failure=None, now=now)


def fail(connection: Connection, ref: TaskRef, failure: Failure) -> int:
    """End a task whose attempt raised; its undone items go back halved, and a little later."""
    return _end(connection, ref, "fail", failure=failure, now=failure.at)


def lapse(connection: Connection, ref: TaskRef, *, now: float, failure: Failure) -> int:
    """End a task whose worker is gone or silent; its undone items go back at once."""
    return _end(connection, ref, "lapse", failure=failure, now=now)


def leased_by(connection: Connection, worker_id: int) -> list[TaskRef]:
    """Tasks that worker holds."""
    found = connection.execute(
        sa.select(tasks.c.id, tasks.c.lease).where(
            tasks.c.worker_id == worker_id, tasks.c.state == TaskState.LEASED
        )
    )
    return [TaskRef(row.id, row.lease) for row in found]


def expired(connection: Connection, *, now: float) -> list[tuple[TaskRef, int]]:
    """Leased tasks whose lease has run out, with the worker that held each."""
    found = connection.execute(
        sa.select(tasks.c.id, tasks.c.lease, tasks.c.worker_id)
        .where(tasks.c.state == TaskState.LEASED, tasks.c.lease_expires_at < now)
        .order_by(tasks.c.lease_expires_at)
    )
    return [(TaskRef(row.id, row.lease), row.worker_id) for row in found]


def _held(ref: TaskRef) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        tasks.c.id == ref.task_id,
        tasks.c.lease == ref.lease,
        tasks.c.state == TaskState.LEASED,
    )


def _move(connection: Connection, group_id: int, **by: int) -> None:
    """Move a group's counters."""
    changes: dict[str, Any] = {name: groups.c[name] + amount for name, amount in by.items()}
    connection.execute(sa.update(groups).where(groups.c.id == group_id).values(**changes))


def _count_for_job(connection: Connection, job_id: int, done: int, failed: int, now: float) -> bool:
    job = connection.execute(
        sa.update(jobs)
        .where(jobs.c.id == job_id)
        .values(done=jobs.c.done + done, failed=jobs.c.failed + failed)
        .returning(jobs.c.done, jobs.c.failed, jobs.c.item_count, jobs.c.state)
    ).one()
    ended: bool = job.done + job.failed == job.item_count
    if ended and job.state != JobState.CANCELLED:
        advance(connection, Entity.JOB, job_id, "finish", now=now, finished_at=now)
    return ended


def _end(
    connection: Connection, ref: TaskRef, verb: str, *, failure: Failure | None, now: float
) -> int:
    only_if = (tasks.c.lease == ref.lease,)
    detail = f"{failure.reason}: {failure.detail}" if failure else None
    try:
        advance(
            connection,
            Entity.TASK,
            ref.task_id,
            verb,
            now=now,
            only_if=only_if,
            detail=detail,
            ended_at=now,
        )
    except StaleTransition as error:
        raise LeaseLost from error
    task = connection.execute(
        sa.select(tasks, groups.c.batch_size, groups.c.first_item.label("origin"))
        .join(groups, groups.c.id == tasks.c.group_id)
        .where(tasks.c.id == ref.task_id)
    ).one()
    undone = _undone(connection, task.job_id, task.first_item, task.stop_item)
    count = sum(stop - first for first, stop in undone)
    if failure is not None:
        failure = msgspec.structs.replace(failure, items=count)
    blamed = failure is not None and failure.reason is not Reason.LAPSED
    put_back(
        connection,
        task.group_id,
        [part for run in undone for part in _parts(run, task, failure)],
        not_before=now + (RETRY_SECONDS if blamed else 0),
    )
    _move(connection, task.group_id, claimable=count, leased=-count)
    return count


def _parts(run: Range, task: sa.Row[Any], failure: Failure | None) -> list[Returned]:
    """What goes back of an undone run: halves if one of its items may be the culprit."""
    failures = decode_failures(task.failures) + ((failure,) if failure else ())
    divided = failure is not None and (failure.reason in DIVISIBLE or _hangs(failures))
    parts = halves(*run, batch_size=task.batch_size, origin=task.origin) if divided else [run]
    return [Returned(first_item=a, stop_item=b, failures=failures) for a, b in parts]


def _hangs(failures: tuple[Failure, ...]) -> bool:
    """Whether a range lapsed too often for chance: one of its items may hold its worker up."""
    return sum(failure.reason is Reason.LAPSED for failure in failures) > LAPSES_BEFORE_HALVING


def _undone(connection: Connection, job_id: int, first: int, stop: int) -> list[Range]:
    """Runs of items in ``[first, stop)`` that have no outcome yet."""
    found = connection.execute(
        sa.select(images.c.item)
        .where(images.c.job_id == job_id, images.c.item >= first, images.c.item < stop)
        .order_by(images.c.item)
    ).scalars()
    runs: list[Range] = []
    at = first
    for item in found:
        if item > at:
            runs.append((at, item))
        at = item + 1
    if at < stop:
        runs.append((at, stop))
    return runs
