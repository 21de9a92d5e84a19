"""What comparing the catalog with its objects asks of the ledger, a folder's worth at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.contract.outcomes import Outcome
from storage.contract.states import JobState, TaskState
from storage.db.rows import batched
from storage.db.tables import groups, images, jobs, shards, tasks

_KEYS_PER_QUERY: Final = 500


class Kept(msgspec.Struct, frozen=True):
    """What a row says of its objects."""

    job_id: int
    item: int
    outcome: str
    object_key: str | None
    thumbnail_key: str | None
    bytes: int | None
    sha256: str | None
    linked_job: int | None  #: whose picture this is; None: its own
    linked_item: int | None
    hidden_at: float | None

    @property
    def is_kept(self) -> bool:
        """Whether there is to be a picture; of a hidden one it may be gone already."""
        return self.outcome == Outcome.RENDERED and self.hidden_at is None


class JobPlace(msgspec.Struct, frozen=True):
    """A job as far as its objects are concerned; a job that is gone has no name."""

    id: int
    name: str | None
    state: str | None
    item_count: int

    @property
    def ended(self) -> bool:
        """Whether no worker writes into its folders any more."""
        return self.state in (JobState.FINISHED, JobState.CANCELLED)


_KEPT = [images.c[name] for name in Kept.__struct_fields__]


def job_after(connection: Connection, job_id: int) -> JobPlace | None:
    """The next job by id, of those that are known and those that only images remain of."""
    known = connection.execute(
        sa.select(jobs.c.id, jobs.c.name, jobs.c.state, jobs.c.item_count)
        .where(jobs.c.id > job_id)
        .order_by(jobs.c.id)
        .limit(1)
    ).first()
    lowest = connection.execute(
        sa.select(images.c.job_id, images.c.item)
        .where(images.c.job_id > job_id)
        .order_by(images.c.job_id, images.c.item)
        .limit(1)
    ).first()
    if lowest is not None and (known is None or lowest.job_id < known.id):
        return JobPlace(lowest.job_id, None, None, 0)
    return JobPlace(*known) if known is not None else None


def job_named(connection: Connection, name: str) -> JobPlace | None:
    """The job of that name."""
    found = connection.execute(
        sa.select(jobs.c.id, jobs.c.name, jobs.c.state, jobs.c.item_count).where(
            jobs.c.name == name
        )
    ).first()
    return JobPlace(*found) if found is not None else None


def kept_between(connection: Connection, job_id: int, first: int, stop: int) -> list[Kept]:
    """The rows of ``[first, stop)``, in order."""
    found = connection.execute(
        sa.select(*_KEPT)
        .where(images.c.job_id == job_id, images.c.item >= first, images.c.item < stop)
        .order_by(images.c.item)
    )
    return [Kept(*row) for row in found]


def first_of(connection: Connection, job_id: int, limit: int) -> list[Kept]:
    """The first rows of a job."""
    found = connection.execute(
        sa.select(*_KEPT).where(images.c.job_id == job_id).order_by(images.c.item).limit(limit)
    )
    return [Kept(*row) for row in found]


def kept_of(connection: Connection, job_id: int, items: Sequence[int]) -> Iterator[Kept]:
    """The rows of these items, as far as there are any."""
    for some in batched(items, _KEYS_PER_QUERY):
        found = connection.execute(
            sa.select(*_KEPT).where(images.c.job_id == job_id, images.c.item.in_(some))
        )
        yield from (Kept(*row) for row in found)


def first_item_from(connection: Connection, job_id: int, item: int) -> int | None:
    """The first item from that one on that has a row."""
    return connection.execute(
        sa.select(images.c.item)
        .where(images.c.job_id == job_id, images.c.item >= item)
        .order_by(images.c.item)
        .limit(1)
    ).scalar()


def is_at_work(connection: Connection, job_id: int) -> bool:
    """Whether a task of the job is under way."""
    found = sa.select(tasks.c.id).where(tasks.c.job_id == job_id, tasks.c.state == TaskState.LEASED)
    return connection.execute(found.limit(1)).first() is not None


def named_anywhere(connection: Connection, keys: Iterable[str]) -> set[str]:
    """Which of these keys some row names, of whatever job; reads all rows for it."""
    return _named(connection, keys)


def _named(connection: Connection, keys: Iterable[str], *where: sa.ColumnElement[bool]) -> set[str]:
    named: set[str] = set()
    for some in batched(list(keys), _KEYS_PER_QUERY):
        for column in (images.c.object_key, images.c.thumbnail_key):
            found = connection.execute(sa.select(column).where(column.in_(some)))
            named.update(found.scalars())
    return named


def links_of(connection: Connection, job_id: int, items: Sequence[int]) -> Iterator[Kept]:
    """The links whose pictures are those of these items of a job."""
    for some in batched(items, _KEYS_PER_QUERY):
        found = connection.execute(
            sa.select(*_KEPT).where(images.c.linked_job == job_id, images.c.linked_item.in_(some))
        )
        yield from (Kept(*row) for row in found)


def shard_of(connection: Connection, job_id: int, item: int) -> str | None:
    """The key of the shard that holds an item."""
    return connection.execute(
        sa.select(shards.c.object_key)
        .where(
            shards.c.job_id == job_id,
            shards.c.first_item <= item,
            shards.c.first_item + shards.c.item_count > item,
        )
        .limit(1)
    ).scalar()


def group_of(connection: Connection, job_id: int, item: int) -> int | None:
    """The group an item belongs to."""
    return connection.execute(
        sa.select(groups.c.id)
        .where(groups.c.job_id == job_id, groups.c.first_item <= item, groups.c.stop_item > item)
        .limit(1)
    ).scalar()


def hold(connection: Connection, job_id: int) -> None:
    """Hold a job's row until the transaction ends: nobody lets it go on meanwhile."""
    connection.execute(sa.select(jobs.c.id).where(jobs.c.id == job_id).with_for_update()).all()
