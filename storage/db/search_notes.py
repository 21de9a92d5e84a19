"""Notes for the indexer: which items' images were recorded, changed or removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.db.tables import search_queue


def note(connection: Connection, job_id: int, first_item: int, stop_item: int) -> None:
    """Have these items looked at: their images were recorded, changed or removed."""
    connection.execute(
        sa.insert(search_queue).values(job_id=job_id, first_item=first_item, stop_item=stop_item)
    )


class _Placed(Protocol):
    """What lies at an item of a job."""

    @property
    def job_id(self) -> int: ...

    @property
    def item(self) -> int: ...


def note_rows(connection: Connection, rows: Sequence[_Placed]) -> None:
    """Have the items of these rows looked at: one note for each job."""
    for job_id in sorted({row.job_id for row in rows}):
        items = [row.item for row in rows if row.job_id == job_id]
        note(connection, job_id, min(items), max(items) + 1)


def waiting(connection: Connection) -> bool:
    """Whether anything is noted that is not indexed yet."""
    return connection.execute(sa.select(search_queue.c.id).limit(1)).first() is not None


class Lag(msgspec.Struct, frozen=True):
    """How far the index is behind."""

    ranges: int
    items: int  #: at most; ranges may hold fewer


def lag(connection: Connection) -> Lag:
    """How much is noted and not indexed yet."""
    queue = search_queue.c
    row = connection.execute(
        sa.select(
            sa.func.count(),
            sa.func.coalesce(sa.func.sum(queue.stop_item - queue.first_item), 0),
        )
    ).one()
    return Lag(ranges=int(row[0]), items=int(row[1]))
