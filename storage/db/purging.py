"""Removing hidden images for good, so that being killed at any instant loses nothing unawares.

First rows are marked as being purged, by hiding them since the beginning of time: from then on
nobody shows or links them again. Then their objects go, save those that other images have, and
the rows themselves last. Whoever is killed between leaves rows that are still marked, which the
next purge takes up first; that an object is gone already is fine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.contract.states import TaskState
from storage.db import steering
from storage.db.rows import batched
from storage.db.tables import collected, images, tasks

PURGING: Final = 0.0
"""When an image that is being purged was hidden."""

_ITEMS_PER_QUERY: Final = 1_000

Key = tuple[int, int]
"""An image by job id and item."""


class Doomed(msgspec.Struct, frozen=True):
    """An image that is being purged."""

    job_id: int
    item: int
    tags: str
    object_key: str | None
    thumbnail_key: str | None
    reuse_key: str | None
    linked_job: int | None
    linked_item: int | None
    bytes: int | None

    @property
    def key(self) -> Key:
        """Its own place."""
        return self.job_id, self.item

    @property
    def root(self) -> Key:
        """The image whose picture it has: its own, or the one it is linked to."""
        if self.linked_job is None or self.linked_item is None:
            return self.key
        return self.linked_job, self.linked_item


_COLUMNS: Final = [images.c[name] for name in Doomed.__struct_fields__]


def due(connection: Connection, *, before: float, limit: int) -> list[Doomed]:
    """Images hidden before that moment, those that a killed purge left first.

    Items of a task under way are left until it ends: it counts them.
    """
    under_way = sa.exists().where(
        tasks.c.id == images.c.task_id, tasks.c.state == TaskState.LEASED.value
    )
    found = connection.execute(
        sa.select(*_COLUMNS)
        .where(images.c.hidden_at.is_not(None), images.c.hidden_at <= before, ~under_way)
        .order_by(images.c.hidden_at)
        .limit(limit)
    )
    return [Doomed(*row) for row in found]


def mark(connection: Connection, doomed: Sequence[Doomed]) -> list[Doomed]:
    """Mark images as being purged; those of them that are still hidden."""
    marked: set[Key] = set()
    for job_id, items in _by_job(one.key for one in doomed):
        found = connection.execute(
            sa.update(images)
            .where(
                images.c.job_id == job_id,
                images.c.item.in_(items),
                images.c.hidden_at.is_not(None),
            )
            .values(hidden_at=PURGING)
            .returning(images.c.item)
        )
        marked.update((job_id, item) for item in found.scalars())
    return [one for one in doomed if one.key in marked]


def objects_of(connection: Connection, doomed: Sequence[Doomed]) -> list[str]:
    """Keys of the objects that go with these images: those no other image has."""
    shared = {root for root, _ in _sharing(connection, {one.root for one in doomed})}
    return sorted(
        {
            key
            for one in doomed
            if one.root not in shared
            for key in (one.object_key, one.thumbnail_key)
            if key is not None
        }
    )


def remove(connection: Connection, doomed: Sequence[Doomed]) -> None:
    """Remove the rows of images whose objects are gone, with their tags and collections.

    Where an image with a reuse key has links, the first of them takes the key over.
    """
    keyed = {one.root: one.reuse_key for one in doomed if one.reuse_key is not None}
    heirs: dict[Key, Key] = {}
    for root, key in _sharing(connection, set(keyed)):
        heirs[root] = min(key, heirs.get(root, key))
    if heirs:
        connection.execute(
            sa.update(images)
            .where(images.c.job_id == sa.bindparam("job"), images.c.item == sa.bindparam("number"))
            .values(reuse_key=sa.bindparam("kept")),
            [
                {"job": key[0], "number": key[1], "kept": keyed[root]}
                for root, key in sorted(heirs.items())
            ],
        )
    by_key = {one.key: one for one in doomed}
    for job_id, items in _by_job(by_key):
        steering.remove_rows(connection, job_id, [by_key[job_id, item] for item in items])
        connection.execute(
            sa.delete(collected).where(collected.c.job_id == job_id, collected.c.item.in_(items))
        )


def _sharing(connection: Connection, roots: set[Key]) -> list[tuple[Key, Key]]:
    """Images that stay and have the picture of one of `roots`: (root, image)."""
    stays = sa.or_(images.c.hidden_at.is_(None), images.c.hidden_at > PURGING)
    found: list[tuple[Key, Key]] = []
    for job_id, items in _by_job(roots):
        own = sa.select(images.c.item).where(
            images.c.job_id == job_id, images.c.item.in_(items), stays
        )
        # A root that is a link to another has gone; its place cannot have been taken.
        found += [((job_id, item), (job_id, item)) for item in connection.execute(own).scalars()]
        linked = sa.select(images.c.linked_item, images.c.job_id, images.c.item).where(
            images.c.linked_job == job_id,
            images.c.linked_job.is_not(None),
            images.c.linked_item.in_(items),
            stays,
        )
        found += [((job_id, row[0]), (row[1], row[2])) for row in connection.execute(linked)]
    return found


def _by_job(keys: Iterable[Key]) -> list[tuple[int, list[int]]]:
    by_job: dict[int, list[int]] = {}
    for job_id, item in sorted(keys):
        by_job.setdefault(job_id, []).append(item)
    return [
        (job_id, list(some))
        for job_id, items in by_job.items()
        for some in batched(items, _ITEMS_PER_QUERY)
    ]


def hidden(connection: Connection) -> tuple[int, int]:
    """How many images are hidden, and the bytes of those that are nobody's link."""
    own = sa.case((images.c.linked_job.is_(None), images.c.bytes), else_=0)
    row: Any = connection.execute(
        sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(own), 0)).where(
            images.c.hidden_at.is_not(None)
        )
    ).one()
    return int(row[0]), int(row[1])
