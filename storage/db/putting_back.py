"""Rendering again what was rendered: an image's row goes, and its item can be claimed anew.

All in the caller's transaction, so that an item has its one outcome or is claimable, never both
and never neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.contract.outcomes import Outcome
from storage.contract.states import Entity, JobState, TaskState
from storage.db import search_notes
from storage.db.images import ImageRow
from storage.db.ranges import Returned, put_back
from storage.db.rows import batched
from storage.db.steering import remove_rows, runs
from storage.db.tables import collected, groups, images, jobs, tasks
from storage.db.transitions import advance, record

_ITEMS_AT_ONCE: Final = 500


def render_again(
    connection: Connection, job_id: int, wanted: dict[int, str | None], *, now: float
) -> list[int]:
    """Put rendered items of a job back to their groups; which ones, in order.

    `wanted` has the SHA-256 each item's row must still have: one that was rendered anew since it
    was looked at stays, and so does one whose task is under way (its own until it ends). The
    caller has seen that the items' shards are there. A finished job is open afterwards; a paused
    or cancelled one stays so.
    """
    _lock(connection, job_id, sorted(wanted))
    taken: list[int] = []
    for some in batched(sorted(wanted), _ITEMS_AT_ONCE):
        found = [row for row in _rendered(connection, job_id, some) if _same(row, wanted)]
        if found:
            _return(connection, job_id, found, now)
            taken += [row.item for row in found]
    if taken:
        _reopen(connection, job_id, len(taken), now)
    return taken


def remove(connection: Connection, job_id: int, items: Sequence[int]) -> None:
    """Remove images of a job that is gone, with their tags."""
    found = connection.execute(
        sa.select(images.c.item, images.c.tags).where(
            images.c.job_id == job_id, images.c.item.in_(items)
        )
    )
    _drop(connection, job_id, found.all())


def _drop(connection: Connection, job_id: int, found: Sequence[Any]) -> None:
    """Remove rows with their tags and collections."""
    if found:
        remove_rows(connection, job_id, found)
        items = [row.item for row in found]
        own = (collected.c.job_id == job_id, collected.c.item.in_(items))
        connection.execute(sa.delete(collected).where(*own))


def _lock(connection: Connection, job_id: int, items: Sequence[int]) -> None:
    """Hold the groups concerned, in the order everybody locks groups in."""
    connection.execute(
        sa.select(groups.c.id)
        .where(
            groups.c.job_id == job_id,
            groups.c.first_item <= items[-1],
            groups.c.stop_item > items[0],
        )
        .order_by(groups.c.id)
        .with_for_update(key_share=True)
    ).all()


def _rendered(connection: Connection, job_id: int, items: Sequence[int]) -> Sequence[Any]:
    found = connection.execute(
        sa.select(images.c.item, images.c.group_id, images.c.tags, images.c.sha256)
        .outerjoin(tasks, tasks.c.id == images.c.task_id)  # a link has no task
        .where(
            images.c.job_id == job_id,
            images.c.item.in_(items),
            images.c.outcome == Outcome.RENDERED.value,
            sa.func.coalesce(tasks.c.state, "") != TaskState.LEASED.value,
        )
        .order_by(images.c.item)
    )
    return found.all()


def _same(row: Any, wanted: dict[int, str | None]) -> bool:
    return bool(row.sha256 == wanted[row.item])


def _return(connection: Connection, job_id: int, found: Sequence[Any], now: float) -> None:
    _drop(connection, job_id, found)
    by_group: dict[int, list[int]] = {}
    for row in found:
        by_group.setdefault(row.group_id, []).append(row.item)
    for group_id, items in sorted(by_group.items()):
        ranges = [Returned(first_item=first, stop_item=stop) for first, stop in runs(items)]
        put_back(connection, group_id, ranges, not_before=now)
        connection.execute(
            sa.update(groups)
            .where(groups.c.id == group_id)
            .values(
                claimable=groups.c.claimable + len(items),
                done=groups.c.done - len(items),
            )
        )


def _reopen(connection: Connection, job_id: int, count: int, now: float) -> None:
    state = connection.execute(
        sa.update(jobs)
        .where(jobs.c.id == job_id)
        .values(done=jobs.c.done - count)
        .returning(jobs.c.state)
    ).scalar_one()
    detail = f"{count} images that are damaged or lost"
    if state == JobState.FINISHED:
        advance(connection, Entity.JOB, job_id, "retry", now=now, detail=detail, finished_at=None)
    else:
        record(connection, Entity.JOB, job_id, "retry", now=now, detail=detail)


_OF_THE_PICTURE: Final = (
    "object_key",
    "thumbnail_key",
    "bytes",
    "sha256",
    "render_key",
    "rendering",
    "truncated_tokens",
    "phash",
    "pixels_sha256",
    "flagged",
    "produced",
)


def relink(connection: Connection, job_id: int, item: int, original: ImageRow) -> None:
    """Let a link say of its picture what the image it is linked to says by now."""
    connection.execute(
        sa.update(images)
        .where(
            images.c.job_id == job_id,
            images.c.item == item,
            images.c.linked_job == original.job_id,
            images.c.linked_item == original.item,
        )
        .values({name: getattr(original, name) for name in _OF_THE_PICTURE})
    )
    search_notes.note(connection, job_id, item, item + 1)
