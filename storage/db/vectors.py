"""Vectors of prompts and pictures as claimable work: noted, leased, committed.

Each distinct prompt, and each distinct picture, has one row, known by its key; so images that
share a prompt share its vector. The indexer knows nothing of it: new keys are noted here by
walking on through the catalog's numbers. A lease is a token and a time, as a task's is; only
its holder commits, and a lapsed one is anybody's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.contract.errors import LeaseLost
from storage.db import images
from storage.db.images import ImageRow
from storage.db.rows import among, upsert
from storage.db.tables import embedders, search, search_keys, vectors

NOTED_PER_STEP: Final = 5_000
LEASE_SECONDS: Final = 120.0
MOST_LAPSES: Final = 3
"""Whoever holds a row that often and does not come back was ended by it."""

SMALLER_BY: Final = 16
"""After each lapse a batch is that much smaller, until the culprit stands alone."""


class Of(StrEnum):
    """What vectors are of."""

    PROMPT = "prompt"
    PICTURE = "picture"


class Embedder(msgspec.Struct, frozen=True, kw_only=True):
    """What makes the vectors of one kind of thing."""

    kind: str
    model: str
    dims: int | None  #: of its vectors, once there is one
    next_n: int


class Work(msgspec.Struct, frozen=True):
    """One prompt or picture to compute the vector of: an image that has it."""

    key: int
    image: ImageRow


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What one claim gave."""

    kind: str
    model: str
    lease: int
    works: tuple[Work, ...]


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How far the vectors of one kind are."""

    kind: str
    model: str
    dims: int | None
    done: int
    due: int  #: noted and not computed, those under lease included
    leased: int
    faults: int  #: given up
    unseen: int  #: catalog numbers that were not looked at yet


def enable(connection: Connection, kind: Of, model: str, *, now: float) -> None:
    """Have vectors made by that model; those of another model are dropped."""
    before = find(connection, kind)
    if before is not None and before.model == model:
        return
    connection.execute(sa.delete(vectors).where(vectors.c.kind == kind))
    values = {"model": model, "dims": None, "next_n": 0, "enabled_at": now}
    statement = upsert(connection, embedders).values(kind=kind, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["kind"], set_=values))


def disable(connection: Connection, kind: Of) -> None:
    """Make none any more, and drop those that are there."""
    connection.execute(sa.delete(embedders).where(embedders.c.kind == kind))
    connection.execute(sa.delete(vectors).where(vectors.c.kind == kind))


def enabled(connection: Connection) -> list[Embedder]:
    """What makes vectors, if anything does."""
    columns = [embedders.c[name] for name in Embedder.__struct_fields__]
    found = connection.execute(sa.select(*columns).order_by(embedders.c.kind))
    return [Embedder(**row._mapping) for row in found]


def find(connection: Connection, kind: str) -> Embedder | None:
    """What makes vectors of that kind."""
    return next((one for one in enabled(connection) if one.kind == kind), None)


def key_column(kind: str) -> sa.Column[int]:
    """The column of `search_keys` that names this kind's vectors."""
    column: sa.Column[int] = search_keys.c[f"{Of(kind).value}_key"]
    return column


def note(connection: Connection, kind: str) -> int:
    """Note the keys of the catalog's next images; how many images were looked at.

    One process at a time does so; another one that tries meanwhile finds nothing to note.
    """
    locked = sa.select(embedders.c.next_n).where(embedders.c.kind == kind)
    start = connection.execute(locked.with_for_update(skip_locked=True)).scalar()
    if start is None:
        return 0
    key = key_column(kind)
    found = connection.execute(
        sa.select(search_keys.c.n, key)
        .where(search_keys.c.n >= start)
        .order_by(search_keys.c.n)
        .limit(NOTED_PER_STEP)
    ).all()
    if not found:
        return 0
    new = [{"kind": kind, "key": one} for one in sorted({row[1] for row in found} - {None})]
    if new:
        connection.execute(upsert(connection, vectors).on_conflict_do_nothing(), new)
    own = embedders.c.kind == kind
    connection.execute(sa.update(embedders).where(own).values(next_n=found[-1][0] + 1))
    return len(found)


def claim(connection: Connection, kind: str, *, lease: int, most: int, now: float) -> Batch | None:
    """Take a lease on up to `most` keys without a vector; None: there are none to take."""
    embedder = find(connection, kind)
    if embedder is None:
        return None
    free = sa.or_(vectors.c.lease_expires_at.is_(None), vectors.c.lease_expires_at < now)
    rows = connection.execute(
        sa.select(vectors.c.key, vectors.c.lease, vectors.c.failures)
        .where(*_due(kind), free)
        .order_by(vectors.c.key)
        .limit(most)
        .with_for_update(skip_locked=True)
    ).all()
    if not rows:
        return None
    lapsed = [row.key for row in rows if row.lease is not None]
    failures = {row.key: row.failures + (row.lease is not None) for row in rows}
    _blame(connection, kind, lapsed)
    keys = _alike([key for key, count in failures.items() if count < MOST_LAPSES], failures, most)
    works = _works(connection, kind, keys)
    _forget(connection, kind, set(keys) - {work.key for work in works})
    mine = among(connection, vectors.c.key, [work.key for work in works])
    connection.execute(
        sa.update(vectors)
        .where(vectors.c.kind == kind, mine)
        .values(lease=lease, lease_expires_at=now + LEASE_SECONDS)
    )
    return Batch(kind=kind, model=embedder.model, lease=lease, works=works)


def commit(
    connection: Connection, batch: Batch, made: Mapping[int, bytes], faults: Mapping[int, str]
) -> None:
    """Record what was computed of a batch, and what cannot be; give the rest back.

    Raises `LeaseLost`, and changes nothing, if any of it is somebody else's by now.
    """
    held = connection.execute(
        sa.select(vectors.c.key).where(*_held(connection, batch)).with_for_update()
    ).all()
    if len(held) != len(batch.works):
        raise LeaseLost("the lease on these vectors has lapsed, and others compute them")
    own = sa.update(vectors).where(
        vectors.c.kind == batch.kind, vectors.c.key == sa.bindparam("own")
    )
    freed = {"lease": None, "lease_expires_at": None}
    if made:
        values = [{"own": key, "made": vector} for key, vector in made.items()]
        connection.execute(own.values(vector=sa.bindparam("made"), **freed), values)
        dims = len(next(iter(made.values()))) // 2
        connection.execute(
            sa.update(embedders).where(embedders.c.kind == batch.kind).values(dims=dims)
        )
    if faults:
        values = [{"own": key, "why": why[:500]} for key, why in faults.items()]
        connection.execute(own.values(fault=sa.bindparam("why"), **freed), values)
    hand_back(connection, batch)


def hand_back(connection: Connection, batch: Batch) -> None:
    """Give back what is still held of a batch."""
    connection.execute(
        sa.update(vectors)
        .where(*_held(connection, batch))
        .values(lease=None, lease_expires_at=None)
    )


def retry(connection: Connection, kind: str) -> int:
    """Try again what was given up; how many."""
    given_up = (vectors.c.kind == kind, vectors.c.fault.is_not(None))
    changed = connection.execute(sa.update(vectors).where(*given_up).values(fault=None, failures=0))
    return changed.rowcount


def status(connection: Connection, embedder: Embedder, *, now: float) -> Status:
    """How far the vectors of one kind are."""
    own = vectors.c.kind == embedder.kind

    def count(*conditions: sa.ColumnElement[bool]) -> int:
        counted = sa.select(sa.func.count()).select_from(vectors).where(own, *conditions)
        return int(connection.execute(counted).scalar_one())

    last = connection.execute(sa.select(sa.func.max(search_keys.c.n))).scalar() or 0
    return Status(
        kind=embedder.kind,
        model=embedder.model,
        dims=embedder.dims,
        done=count(vectors.c.vector.is_not(None)),
        due=count(*_due(embedder.kind)),
        leased=count(*_due(embedder.kind), vectors.c.lease_expires_at >= now),
        faults=count(vectors.c.fault.is_not(None)),
        unseen=max(0, last + 1 - max(1, embedder.next_n)),
    )


def _due(kind: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (vectors.c.kind == kind, vectors.c.vector.is_(None), vectors.c.fault.is_(None))


def _held(connection: Connection, batch: Batch) -> tuple[sa.ColumnElement[bool], ...]:
    mine = among(connection, vectors.c.key, [work.key for work in batch.works])
    return (vectors.c.kind == batch.kind, mine, vectors.c.lease == batch.lease)


def _alike(keys: Sequence[int], failures: Mapping[int, int], most: int) -> list[int]:
    """Those that lapsed as often as the first: what was suspected once is tried in small."""
    if not keys:
        return []
    count = failures[keys[0]]
    alike = [key for key in keys if failures[key] == count]
    return alike[: max(1, most // SMALLER_BY**count)]


def _blame(connection: Connection, kind: str, lapsed: Sequence[int]) -> None:
    if not lapsed:
        return
    own = sa.and_(vectors.c.kind == kind, among(connection, vectors.c.key, lapsed))
    ended = {"lease": None, "lease_expires_at": None}
    more = vectors.c.failures + 1
    connection.execute(sa.update(vectors).where(own).values(failures=more, **ended))
    connection.execute(
        sa.update(vectors)
        .where(own, vectors.c.failures >= MOST_LAPSES)
        .values(fault=f"{MOST_LAPSES} workers ended while they computed it")
    )


def _works(connection: Connection, kind: str, keys: Sequence[int]) -> tuple[Work, ...]:
    """The keys with an image each, as far as there still is one."""
    if not keys:
        return ()
    key = key_column(kind)
    first = (
        sa.select(search_keys.c.n).where(key == vectors.c.key).order_by(search_keys.c.n).limit(1)
    )
    wanted = sa.and_(vectors.c.kind == kind, among(connection, vectors.c.key, keys))
    numbered = sa.select(vectors.c.key, first.scalar_subquery().label("n")).where(wanted).cte()
    found = connection.execute(
        sa.select(numbered.c.key, search.c.job_id, search.c.item).join(
            search, search.c.n == numbered.c.n
        )
    ).all()
    rows = images.of_keys(connection, [(row.job_id, row.item) for row in found])
    return tuple(
        Work(row.key, rows[row.job_id, row.item][1])
        for row in found
        if (row.job_id, row.item) in rows
    )


def _forget(connection: Connection, kind: str, keys: set[int]) -> None:
    """Of keys that no image has any more."""
    if keys:
        gone = among(connection, vectors.c.key, sorted(keys))
        connection.execute(sa.delete(vectors).where(vectors.c.kind == kind, gone))
