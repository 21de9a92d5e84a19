"""What users do to a job that exists: pause, resume, cancel, reprioritise, retry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.contract.outcomes import Outcome
from storage.contract.states import Entity, JobState, TaskState
from storage.db import search_notes
from storage.db.bulk import insert_rows
from storage.db.ranges import encode_failures
from storage.db.tables import groups, image_tags, images, jobs, returned, tasks
from storage.db.transitions import advance, record

_ITEMS_AT_ONCE: Final = 5000
_TAGS: Final = msgspec.json.Decoder(dict[str, str])


def pause(connection: Connection, job_id: int, *, now: float) -> None:
    """Let nothing more be claimed of an open job until it is resumed."""
    advance(connection, Entity.JOB, job_id, "pause", now=now)


def resume(connection: Connection, job_id: int, *, now: float) -> None:
    """Let a paused job go on."""
    advance(connection, Entity.JOB, job_id, "resume", now=now)


def cancel(connection: Connection, job_id: int, *, now: float) -> None:
    """Let nothing more be claimed of a job; what is rendered stays."""
    advance(connection, Entity.JOB, job_id, "cancel", now=now)


def set_priority(connection: Connection, job_id: int, priority: int, *, now: float) -> None:
    """Change a job's priority; higher goes first, from the next claim on."""
    connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(priority=priority))
    record(connection, Entity.JOB, job_id, "priority", now=now, detail=str(priority))


def reopen(connection: Connection, job_id: int, *, now: float) -> None:
    """Let a cancelled job go on where it was left."""
    advance(connection, Entity.JOB, job_id, "retry", now=now, finished_at=None)


def retry_failed(connection: Connection, job_id: int, *, now: float) -> int:
    """Make a job's failed items claimable again, with a clean slate; how many those are.

    Their rows and tags go, so that each item again ends as exactly one outcome. A finished or
    cancelled job is open again afterwards; one that is open or paused stays as it is. What
    earlier attempts failed of is forgotten, also where it waits in returned ranges. Items that
    a task under way has recorded as failed are left: they are its own until it ends.
    """
    _lock_groups(connection, job_id)
    count = 0
    while some := _failed_items(connection, job_id):
        _take_back(connection, job_id, some, now)
        count += len(some)
    _forget_failures(connection, job_id)
    if count:
        state = connection.execute(
            sa.update(jobs)
            .where(jobs.c.id == job_id)
            .values(failed=jobs.c.failed - count)
            .returning(jobs.c.state)
        ).scalar_one()
        if state in (JobState.FINISHED, JobState.CANCELLED):
            advance(
                connection,
                Entity.JOB,
                job_id,
                "retry",
                now=now,
                detail=f"{count} failed items",
                finished_at=None,
            )
        else:
            record(connection, Entity.JOB, job_id, "retry", now=now, detail=f"{count} failed items")
    return count


def _lock_groups(connection: Connection, job_id: int) -> None:
    """Hold the groups that have failures, in the order everybody locks groups in."""
    connection.execute(
        sa.select(groups.c.id)
        .where(groups.c.job_id == job_id, groups.c.failed > 0)
        .order_by(groups.c.id)
        .with_for_update(key_share=True)
    ).all()


def _failed_items(connection: Connection, job_id: int) -> Sequence[Any]:
    """Some of the failed items, with their groups, in order."""
    found = connection.execute(
        sa.select(images.c.item, images.c.group_id, images.c.tags)
        .join(tasks, tasks.c.id == images.c.task_id)
        .where(
            images.c.job_id == job_id,
            images.c.outcome == Outcome.FAILED.value,
            tasks.c.state != TaskState.LEASED,
        )
        .order_by(images.c.item)
        .limit(_ITEMS_AT_ONCE)
    )
    return found.all()


def _take_back(connection: Connection, job_id: int, some: Sequence[Any], now: float) -> None:
    """Remove the rows of these items, and put the items back to their groups."""
    remove_rows(connection, job_id, some)
    by_group: dict[int, list[int]] = {}
    for row in some:
        by_group.setdefault(row.group_id, []).append(row.item)
    in_order = sorted(by_group.items())
    insert_rows(
        connection,
        returned,
        ("group_id", "first_item", "stop_item", "failures", "not_before"),
        [
            (group_id, first, stop, encode_failures(()), now)
            for group_id, items in in_order
            for first, stop in runs(items)
        ],
    )
    connection.execute(
        sa.update(groups)
        .where(groups.c.id == sa.bindparam("group"))
        .values(
            claimable=groups.c.claimable + sa.bindparam("count"),
            failed=groups.c.failed - sa.bindparam("count"),
        ),
        [{"group": group_id, "count": len(items)} for group_id, items in in_order],
    )


def remove_rows(connection: Connection, job_id: int, some: Sequence[Any]) -> None:
    """Remove image rows and their tags, and have the index look; rows give `item` and `tags`."""
    connection.execute(
        sa.delete(images).where(
            images.c.job_id == job_id, images.c.item.in_([row.item for row in some])
        )
    )
    tags = [
        {"key_": key, "value_": value, "job_": job_id, "item_": row.item}
        for row in some
        for key, value in _TAGS.decode(row.tags).items()
    ]
    if tags:  # by their whole key: there is no index on what remains of it
        columns = ("key", "value", "job_id", "item")
        binds = ("key_", "value_", "job_", "item_")
        same = [image_tags.c[c] == sa.bindparam(b) for c, b in zip(columns, binds, strict=True)]
        connection.execute(sa.delete(image_tags).where(*same), tags)
    items = [row.item for row in some]
    search_notes.note(connection, job_id, min(items), max(items) + 1)


def runs(items: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Ascending items as ranges of neighbours."""
    first = stop = -1
    for item in items:
        if item != stop:
            if first >= 0:
                yield first, stop
            first = item
        stop = item + 1
    if first >= 0:
        yield first, stop


def _forget_failures(connection: Connection, job_id: int) -> None:
    own = sa.select(groups.c.id).where(groups.c.job_id == job_id)
    connection.execute(
        sa.update(returned).where(returned.c.group_id.in_(own)).values(failures=encode_failures(()))
    )
