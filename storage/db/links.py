"""Items that are not rendered but linked: their images are there already, under the same key.

A link is an image row of its own, with the item's row, line and tags, that points to the object
of another image. It always names the image that was rendered, never another link, so that all
rows of one object are found by one pair of columns.

A link is written in the transaction that creates its job, with the counters, so there is no
moment at which an item is both linked and claimable. The images it takes from are locked for
that long: who hides or purges one waits, and then sees the link.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

from storage.contract.items import GroupSpec, Item
from storage.contract.outcomes import Outcome
from storage.contract.states import Entity
from storage.db import images as image_rows
from storage.db.bulk import insert_rows
from storage.db.images import ImageRow
from storage.db.ranges import Range, encode_failures
from storage.db.rows import batched, columns_of
from storage.db.tables import groups, images, jobs, returned
from storage.db.transitions import advance

KEYS_PER_QUERY: Final = 2_000
MOST_RANGES: Final = 1_000
"""Of a group, that are left to be rendered: each is claimed by itself."""

_IMAGE = columns_of(ImageRow, images)

_NO_TASK: Final = 0


class Linked(msgspec.Struct, frozen=True, kw_only=True):
    """What came of linking a job's items."""

    images: int
    all_done: bool  #: nothing of the job is left to render


class LinkedGroup(msgspec.Struct, frozen=True, kw_only=True):
    """A group of a new job."""

    id: int
    first_item: int
    stop_item: int
    spec: GroupSpec


def known_keys(connection: Connection, keys: Sequence[str]) -> set[str]:
    """Those of these reuse keys under which there is an image to link to."""
    found: set[str] = set()
    for some in batched(keys, KEYS_PER_QUERY):
        statement = sa.select(images.c.reuse_key).where(*_linkable(connection, some))
        found.update(connection.execute(statement).scalars())
    return found


def sources(connection: Connection, keys: Sequence[str]) -> dict[str, ImageRow]:
    """The oldest image under each of these keys, held until the transaction ends."""
    found: dict[str, ImageRow] = {}
    for some in batched(keys, KEYS_PER_QUERY):
        rows = connection.execute(
            sa.select(*_IMAGE)
            .where(*_linkable(connection, some))
            .order_by(images.c.job_id, images.c.item)
            .with_for_update(read=True)
        )
        for row in rows:
            image = ImageRow(*row)
            found.setdefault(str(image.reuse_key), image)
    return found


def _linkable(connection: Connection, keys: Sequence[str]) -> Iterator[sa.ColumnElement[bool]]:
    if connection.dialect.name == "postgresql":
        yield images.c.reuse_key == sa.any_(sa.literal(list(keys), postgresql.ARRAY(sa.Text)))
    else:
        yield images.c.reuse_key.in_(keys)
    yield images.c.reuse_key.is_not(None)  # SQLite takes a partial index only if this is said
    yield images.c.outcome == Outcome.RENDERED.value
    yield images.c.object_key.is_not(None)
    yield images.c.hidden_at.is_(None)


def groups_of(connection: Connection, job_id: int, specs: Sequence[GroupSpec]) -> list[LinkedGroup]:
    """The groups of a job that was just written, in the order of their items."""
    found = connection.execute(
        sa.select(groups.c.id, groups.c.first_item, groups.c.stop_item)
        .where(groups.c.job_id == job_id)
        .order_by(groups.c.first_item)
    )
    return [
        LinkedGroup(id=row.id, first_item=row.first_item, stop_item=row.stop_item, spec=spec)
        for row, spec in zip(found, specs, strict=True)
    ]


def link_row(
    job_id: int, group: LinkedGroup, number: int, item: Item, source: ImageRow
) -> ImageRow:
    """The row of an item whose picture is that of `source`; its time and lineage are the caller's.

    What was asked for is the item's; what was made of it, and by whom, the source's.
    """
    return msgspec.structs.replace(
        source,
        job_id=job_id,
        item=number,
        group_id=group.id,
        task_id=_NO_TASK,
        row=item.row,
        line=item.line,
        image_no=item.image_no,
        model=group.spec.model,
        revision=group.spec.revision,
        tags=msgspec.json.encode(item.tags).decode(),
        seconds=None,  # it took none
        reuse_key=None,  # whoever looks for the key finds the image that was rendered
        linked_job=source.job_id if source.linked_job is None else source.linked_job,
        linked_item=source.item if source.linked_item is None else source.linked_item,
        rating=None,
        collections=None,
        marked_at=None,
    )


def write(connection: Connection, rows: Sequence[ImageRow]) -> None:
    """Write links as image rows, with their tags."""
    image_rows.insert(connection, rows)


def settle(
    connection: Connection,
    job_id: int,
    left: Mapping[int, Sequence[Range]],
    counts: Mapping[int, int],
    *,
    now: float,
) -> Linked:
    """Count the links of a new job, and leave to be claimed only what is not linked.

    By group: the ranges that are `left`, and in `counts` how many of its items are linked. Groups
    without links are in neither.
    """
    if not counts:
        return Linked(images=0, all_done=False)
    _leave(connection, left)
    _count(connection, counts, left)
    total = sum(counts.values())
    job = connection.execute(
        sa.update(jobs)
        .where(jobs.c.id == job_id)
        .values(done=jobs.c.done + total)
        .returning(jobs.c.done, jobs.c.item_count)
    ).one()
    all_done = bool(job.done == job.item_count)
    if all_done:
        advance(connection, Entity.JOB, job_id, "finish", now=now, finished_at=now)
    return Linked(images=total, all_done=all_done)


def _leave(connection: Connection, left: Mapping[int, Sequence[Range]]) -> None:
    insert_rows(
        connection,
        returned,
        ("group_id", "first_item", "stop_item", "failures", "not_before"),
        [
            (group_id, first, stop, encode_failures(()), 0.0)  # at once
            for group_id, runs in left.items()
            for first, stop in runs
        ],
    )


def _count(
    connection: Connection, counts: Mapping[int, int], left: Mapping[int, Sequence[Range]]
) -> None:
    """A group with links is never cut from its counter again, only from its ranges."""
    connection.execute(
        sa.update(groups)
        .where(groups.c.id == sa.bindparam("group"))
        .values(
            done=groups.c.done + sa.bindparam("linked"),
            claimable=sa.bindparam("open"),
            next_item=groups.c.stop_item,
        ),
        [
            {
                "group": group_id,
                "linked": linked,
                "open": sum(stop - first for first, stop in left[group_id]),
            }
            for group_id, linked in counts.items()
        ],
    )


def unlinked(first: int, stop: int, linked: Iterable[int], most: int = MOST_RANGES) -> list[Range]:
    """The runs of ``[first, stop)`` without the `linked` items, which ascend; at most `most`.

    Where there are more, those with the fewest linked items between them are taken together: it
    costs less to render some items that could be linked than to claim each by itself.
    """
    runs: list[Range] = []
    at = first
    for item in linked:
        if item > at:
            runs.append((at, item))
        at = item + 1
    if at < stop:
        runs.append((at, stop))
    if len(runs) <= most:
        return runs
    gaps = sorted(range(1, len(runs)), key=lambda n: (runs[n - 1][1] - runs[n][0], n))
    borders = sorted(gaps[: most - 1])  # the widest gaps stay
    starts = [0, *borders]
    stops = [*borders, len(runs)]
    return [(runs[a][0], runs[b - 1][1]) for a, b in zip(starts, stops, strict=True)]
