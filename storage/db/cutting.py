"""Cutting tasks at claim time, and leasing them to the worker that claims.

A claim locks the rows of the groups it takes from, one after the other and each only for as
long as its transaction. Without `wait` it passes over a group that somebody else holds, so that
claimers need not queue for one group where another will do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.contract.claims import Claim, ClaimedTask
from storage.contract.items import GroupSpec
from storage.contract.outcomes import Failure, leaves_to_others
from storage.contract.output import decode_output
from storage.contract.states import Entity, JobState, TaskState, WorkerState
from storage.db import set_aside
from storage.db.bulk import insert_rows
from storage.db.ranges import Returned, encode_failures, next_range, take_returned
from storage.db.rows import among
from storage.db.tables import events, groups, jobs, tasks, workers
from storage.db.transitions import record

_SPEC = msgspec.json.Decoder(GroupSpec)
_NO_FAILURES = encode_failures(())


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker brings to a claim: who it is, and the right it will hold."""

    worker_id: int
    token: int
    seconds: float


def cut(
    connection: Connection,
    claim: Claim,
    lease: Lease,
    *,
    now: float,
    able: int = 1,
    wait: bool = True,
) -> ClaimedTask | None:
    """Cut the task that `claim` asks for, and lease it; None if nothing is due for this worker.

    `able` is how many live workers could do it: what this one failed at it leaves to those that
    have not tried yet. The task counts as started: a claimer begins with it at once.
    """
    group = _lock(connection, [claim.group_id], lease.worker_id, wait=wait).first()
    if group is None:
        return None

    if _has_returned(group) and able > 1:
        able = max(1, able - set_aside.workers_of(connection, group.id, now=now))

    def refuses(failures: tuple[Failure, ...]) -> bool:
        return leaves_to_others(failures, group.worker_name, able=able, now=now)

    taken, next_item = _take(connection, group, claim.items, now, refuses)
    if taken is None:
        return None
    task_id = _lease(connection, group, taken, lease, next_item=next_item, now=now)
    return _claimed(group, task_id, taken, lease, claim=claim, able=able)


def _lease(
    connection: Connection,
    group: sa.Row[Any],
    taken: Returned,
    lease: Lease,
    *,
    next_item: int,
    now: float,
) -> int:
    """Move the group's counters, and write the task and its event; the task's id.

    On PostgreSQL as one statement: each takes a round trip while the group is locked.
    """
    count = taken.stop_item - taken.first_item
    moved = (
        sa.update(groups)
        .where(groups.c.id == group.id)
        .values(
            next_item=next_item,
            claimable=groups.c.claimable - count,
            leased=groups.c.leased + count,
            last_claimed_at=now,
        )
    )
    made = (
        sa.insert(tasks)
        .values(
            job_id=group.job_id,
            group_id=group.id,
            worker_id=lease.worker_id,
            first_item=taken.first_item,
            stop_item=taken.stop_item,
            state=TaskState.LEASED,
            lease=lease.token,
            lease_expires_at=now + lease.seconds,
            failures=encode_failures(taken.failures),
            claimed_at=now,
            started_at=now,
        )
        .returning(tasks.c.id)
    )
    detail = f"{count} items"
    if connection.dialect.name != "postgresql":
        connection.execute(moved)
        task_id = int(connection.execute(made).scalar_one())
        record(connection, Entity.TASK, task_id, "claim", now=now, detail=detail)
        return task_id
    new = made.cte("made")
    said = sa.select(
        sa.literal(now, sa.Double),
        sa.literal(Entity.TASK.value),
        new.c.id,
        sa.literal("claim"),
        sa.literal(detail),
    )
    event = sa.insert(events).from_select(["at", "entity", "entity_id", "verb", "detail"], said)
    statement = event.add_cte(moved.cte("moved")).returning(events.c.entity_id)
    return int(connection.execute(statement).scalar_one())


def cut_whole(
    connection: Connection,
    group_ids: Sequence[int],
    lease: Lease,
    claim: Claim,
    *,
    now: float,
    able: int = 1,
) -> list[ClaimedTask]:
    """Cut one task from each of these groups that nobody has claimed from yet, all of it.

    They begin at the rung that `claim` names.

    For groups smaller than a task should be: the worker carries these out one after the other,
    and none of them counts as started yet. Groups that somebody else holds are left out.
    """
    if not group_ids:
        return []
    found = _lock(connection, group_ids, lease.worker_id, wait=False)
    untouched = [row for row in found if row.next_item == row.first_item]
    if not untouched:
        return []
    connection.execute(
        sa.update(groups)
        .where(among(connection, groups.c.id, [row.id for row in untouched]))
        .values(
            next_item=groups.c.stop_item,
            leased=groups.c.claimable,
            claimable=0,
            last_claimed_at=now,
        )
    )
    task_ids = _insert_tasks(connection, untouched, lease, now)
    return [
        _claimed(
            row,
            task_id,
            Returned(first_item=row.first_item, stop_item=row.stop_item),
            lease,
            claim=claim,
            able=able,
        )
        for row, task_id in zip(untouched, task_ids, strict=True)
    ]


def _lock(
    connection: Connection, group_ids: Sequence[int], worker_id: int, *, wait: bool
) -> sa.CursorResult[Any]:
    """Lock these groups' rows, as far as they can still be claimed from by this worker."""
    return connection.execute(
        sa.select(
            groups,
            jobs.c.name.label("job_name"),
            jobs.c.output,
            workers.c.name.label("worker_name"),
        )
        .join(jobs, jobs.c.id == groups.c.job_id)
        .join(workers, workers.c.id == worker_id)
        .where(
            among(connection, groups.c.id, group_ids),
            groups.c.claimable > 0,
            jobs.c.state == JobState.OPEN,
            workers.c.state != WorkerState.DRAINING,
        )
        .order_by(groups.c.id)
        .with_for_update(of=groups, key_share=True, skip_locked=not wait)
    )


def _take(
    connection: Connection,
    group: sa.Row[Any],
    count: int,
    now: float,
    refuses: Callable[[tuple[Failure, ...]], bool],
) -> tuple[Returned | None, int]:
    """What came back first, then what was never claimed; and where the latter begins then."""
    if _has_returned(group):
        taken = take_returned(
            connection,
            group.id,
            count,
            batch_size=group.batch_size,
            origin=group.first_item,
            now=now,
            refuses=refuses,
        )
        if taken is not None:
            return taken, group.next_item
    taken = next_range(
        group.next_item,
        group.stop_item,
        count,
        batch_size=group.batch_size,
        origin=group.first_item,
    )
    return taken, taken.stop_item if taken else group.next_item


def _has_returned(group: sa.Row[Any]) -> bool:
    return bool(group.claimable > group.stop_item - group.next_item)


def _insert_tasks(
    connection: Connection, rows: Sequence[sa.Row[Any]], lease: Lease, now: float
) -> list[int]:
    """A leased task for each of these groups, and its event; the tasks' ids in their order."""
    values = {
        "job_id": groups.c.job_id,
        "group_id": groups.c.id,
        "worker_id": sa.literal(lease.worker_id),
        "first_item": groups.c.first_item,
        "stop_item": groups.c.stop_item,
        "state": sa.literal(TaskState.LEASED.value),
        "lease": sa.literal(lease.token, sa.BigInteger),
        "lease_expires_at": sa.literal(now + lease.seconds, sa.Double),
        "failures": sa.literal(_NO_FAILURES),
        "claimed_at": sa.literal(now, sa.Double),
    }
    chosen = sa.select(*values.values()).where(
        among(connection, groups.c.id, [row.id for row in rows])
    )
    made = connection.execute(
        sa.insert(tasks).from_select(list(values), chosen).returning(tasks.c.group_id, tasks.c.id)
    )
    by_group = {row.group_id: row.id for row in made}
    ids = [by_group[row.id] for row in rows]
    insert_rows(
        connection,
        events,
        ("at", "entity", "entity_id", "verb", "detail"),
        [
            (now, Entity.TASK.value, task_id, "claim", f"{row.stop_item - row.first_item} items")
            for task_id, row in zip(ids, rows, strict=True)
        ],
    )
    return ids


def _claimed(
    group: sa.Row[Any], task_id: int, taken: Returned, lease: Lease, *, claim: Claim, able: int
) -> ClaimedTask:
    return ClaimedTask(
        task_id=task_id,
        lease=lease.token,
        job_id=group.job_id,
        job_name=group.job_name,
        group_id=group.id,
        group_first_item=group.first_item,
        first_item=taken.first_item,
        stop_item=taken.stop_item,
        spec=_SPEC.decode(group.spec),
        mode=claim.mode,
        lease_seconds=lease.seconds,
        failures=taken.failures,
        able=able,
        batch=claim.batch,
        tiled=claim.tiled,
        memory_bytes=claim.memory_bytes,
        output=decode_output(group.output),
    )
