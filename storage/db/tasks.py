"""Tasks and their leases: renewing them, committing images, ending them.

Every step that a worker takes on a task presents the lease; if it does not match, or the task
has ended, the step raises `LeaseLost` and its transaction leaves no trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.contract.errors import LeaseLost, StaleTransition
from storage.contract.outcomes import BLAMELESS, DIVISIBLE, Failure, Outcome
from storage.contract.states import Entity, JobState, TaskState
from storage.db import images as image_rows
from storage.db import set_aside
from storage.db.ranges import Range, Returned, decode_failures, halves, put_back
from storage.db.rows import among
from storage.db.tables import groups, images, jobs, tasks, workers
from storage.db.transitions import advance

LAPSES_BEFORE_HALVING = 2

RETRY_SECONDS = 1.0
"""How long a range that failed rests, so that a fault of the moment can pass."""


class TaskRef(msgspec.Struct, frozen=True):
    """A task and the lease that gives the right to it."""

    task_id: int
    lease: int


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """What a commit brought to an end."""

    task: bool
    job: bool


def start(connection: Connection, ref: TaskRef, *, expires_at: float, now: float) -> None:
    """Note that work on a task begins now, before it does: from here on it can be to blame."""
    changed = connection.execute(
        sa.update(tasks).where(*_held(ref)).values(started_at=now, lease_expires_at=expires_at)
    )
    if changed.rowcount != 1:
        raise LeaseLost


def renew(connection: Connection, ref: TaskRef, *, expires_at: float) -> None:
    """Move the end of the lease; called only when the task made progress."""
    changed = connection.execute(
        sa.update(tasks).where(*_held(ref)).values(lease_expires_at=expires_at)
    )
    if changed.rowcount != 1:
        raise LeaseLost


def renew_waiting(connection: Connection, waiting: Sequence[TaskRef], *, expires_at: float) -> None:
    """Move the end of the leases of tasks that wait for their turn at the same worker.

    Those that were lost meanwhile are passed over; to `start` them will fail.
    """
    if waiting:
        connection.execute(
            sa.update(tasks)
            .where(
                among(connection, tasks.c.id, [ref.task_id for ref in waiting]),
                tasks.c.lease == waiting[0].lease,
                tasks.c.state == TaskState.LEASED,
            )
            .values(lease_expires_at=expires_at)
        )


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
    task_ended = task.done + task.failed == task.stop_item - task.first_item
    if task_ended:
        advance(connection, Entity.TASK, ref.task_id, "finish", now=now, ended_at=now)
        if task.failed == 0:
            _judge(connection, task, now)
    # Last, because all commits of a job meet here.
    job_ended = _count_for_job(connection, task.job_id, done, failed, now)
    return Ended(task=task_ended, job=job_ended)


def hand_back(connection: Connection, ref: TaskRef, *, now: float) -> int:
    """Return what is undone without blame (drain, cancel); how many items that is."""
    return _end(connection, ref, "return", failure=None, now=now)


def fail(connection: Connection, ref: TaskRef, failure: Failure) -> int:
    """End a task whose attempt raised; its undone items go back halved, and a little later."""
    return _end(connection, ref, "fail", failure=failure, now=failure.at)


def lapse(
    connection: Connection,
    ref: TaskRef,
    *,
    now: float,
    failure: Failure,
    overdue: bool = False,
) -> int:
    """End a task whose worker is gone or silent; its undone items go back at once.

    With `overdue`, only if its lease has still run out: it may have been renewed meanwhile.
    """
    only_if = (tasks.c.lease_expires_at < now,) if overdue else ()
    return _end(connection, ref, "lapse", failure=failure, now=now, only_if=only_if)


def end_all(
    connection: Connection,
    worker_id: int,
    *,
    now: float,
    failure: Failure | None = None,
) -> list[int]:
    """End all tasks a worker holds: lapsed with `failure`, or else handed back; items of each.

    All tasks are locked first and their groups after that in one order, so that two who do
    this, or one who commits meanwhile, never wait for each other.
    """
    held = connection.execute(
        sa.select(tasks.c.id, tasks.c.lease, tasks.c.group_id)
        .where(tasks.c.worker_id == worker_id, tasks.c.state == TaskState.LEASED)
        .order_by(tasks.c.id)
        .with_for_update()
    ).all()
    verb = "lapse" if failure else "return"
    return [
        _end(connection, TaskRef(row.id, row.lease), verb, failure=failure, now=now)
        for row in sorted(held, key=lambda row: row.group_id)
    ]


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


def _judge(connection: Connection, task: sa.Row[Any], now: float) -> None:
    """What a rendered task says about its worker, and about those that failed at it before."""
    set_aside.forgive(connection, task.group_id, task.worker_id)
    failures = decode_failures(task.failures)
    if not failures:
        return
    name = _name_of(connection, task.worker_id)
    for failure in set_aside.shown_up(failures, task.first_item, task.stop_item, name):
        set_aside.count(connection, task.group_id, failure, now=now)


def _name_of(connection: Connection, worker_id: int) -> str:
    statement = sa.select(workers.c.name).where(workers.c.id == worker_id)
    return str(connection.execute(statement).scalar_one())


def _end(
    connection: Connection,
    ref: TaskRef,
    verb: str,
    *,
    failure: Failure | None,
    now: float,
    only_if: tuple[sa.ColumnElement[bool], ...] = (),
) -> int:
    detail = f"{failure.reason}: {failure.detail}" if failure else None
    try:
        advance(
            connection,
            Entity.TASK,
            ref.task_id,
            verb,
            now=now,
            only_if=(tasks.c.lease == ref.lease, *only_if),
            detail=detail,
            ended_at=now,
        )
    except StaleTransition as error:
        raise LeaseLost from error
    task = connection.execute(
        sa.select(
            tasks,
            groups.c.batch_size,
            groups.c.first_item.label("origin"),
            groups.c.stop_item.label("group_stop"),
            workers.c.name.label("worker_name"),
        )
        .join(groups, groups.c.id == tasks.c.group_id)
        .join(workers, workers.c.id == tasks.c.worker_id)
        .where(tasks.c.id == ref.task_id)
    ).one()
    undone = _undone(connection, task.job_id, task.first_item, task.stop_item)
    count = sum(stop - first for first, stop in undone)
    failure = _settled(failure, task, undone, count)
    if failure is None and _rewind(connection, task, undone):
        return count
    blamed = failure is not None and failure.reason not in BLAMELESS
    put_back(
        connection,
        task.group_id,
        [part for run in undone for part in _parts(run, task, failure)],
        not_before=now + (RETRY_SECONDS if blamed else 0),
    )
    _move(connection, task.group_id, claimable=count, leased=-count)
    return count


def _rewind(connection: Connection, task: sa.Row[Any], undone: list[Range]) -> bool:
    """Let a group that was claimed whole, and comes back whole, be as if never claimed from.

    So small groups can be cut many at once again.
    """
    whole = (task.origin, task.group_stop)
    if undone != [whole] or decode_failures(task.failures):
        return False
    connection.execute(
        sa.update(groups)
        .where(groups.c.id == task.group_id)
        .values(
            next_item=task.origin,
            claimable=groups.c.claimable + groups.c.leased,
            leased=0,
        )
    )
    return True


def _settled(
    failure: Failure | None, task: sa.Row[Any], undone: list[Range], count: int
) -> Failure | None:
    """The failure with what only the ledger knows; none if the task was never begun."""
    if failure is None or task.started_at is None or not undone:
        return None
    return msgspec.structs.replace(
        failure, worker=task.worker_name, items=count, first_item=undone[0][0]
    )


def _parts(run: Range, task: sa.Row[Any], failure: Failure | None) -> list[Returned]:
    """What goes back of an undone run: halves if one of its items may be the culprit."""
    failures = decode_failures(task.failures) + ((failure,) if failure else ())
    divided = failure is not None and (failure.reason in DIVISIBLE or _hangs(failures))
    parts = halves(*run, batch_size=task.batch_size, origin=task.origin) if divided else [run]
    return [Returned(first_item=a, stop_item=b, failures=failures) for a, b in parts]


def _hangs(failures: tuple[Failure, ...]) -> bool:
    """Whether a range lapsed too often for chance: one of its items may hold its worker up."""
    return sum(failure.reason in BLAMELESS for failure in failures) > LAPSES_BEFORE_HALVING


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
