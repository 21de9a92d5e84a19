"""Where the image rows of a new job will lie: shelves, which on PostgreSQL are partitions.

`images` is partitioned by ranges of its key, (job, item). A shelf holds the jobs of a range of
ids, up to some millions of items; then the next shelf begins. A job larger than that has a
shelf of its own, of several partitions. So no partition's indexes outgrow the memory, a page of
the catalog reads one or two of them, and a large job goes by dropping tables. Partitions are
made when a job is written, never while images are recorded.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.db import search_notes
from storage.db.tables import images, shelves

SHELF_ITEMS: Final = 10_000_000
"""Rows of one partition: some gigabytes with their indexes."""

SHELF_JOBS: Final = 1_000

_IDS = sa.func.pg_get_serial_sequence("jobs", "id")


def job_id_for(connection: Connection, item_count: int) -> int | None:
    """The id a new job of `item_count` items must have to lie on a shelf; None: any id will do.

    Those who write jobs at once wait here for each other until they commit.
    """
    if connection.dialect.name != "postgresql":
        return None
    shelf = connection.execute(
        sa.select(shelves).order_by(shelves.c.first_job.desc()).limit(1).with_for_update()
    ).one()
    # Another may have opened a shelf while this waited for the row: look again.
    newest = connection.execute(sa.select(sa.func.max(shelves.c.first_job))).scalar_one()
    if newest != shelf.first_job:
        return job_id_for(connection, item_count)
    job_id = _next_id(connection)
    if job_id < shelf.stop_job and shelf.item_count + item_count <= SHELF_ITEMS:
        connection.execute(
            sa.update(shelves)
            .where(shelves.c.first_job == shelf.first_job)
            .values(item_count=shelves.c.item_count + item_count)
        )
        return job_id
    return _open_shelf(connection, max(job_id, shelf.stop_job), item_count)


def _open_shelf(connection: Connection, first_job: int, item_count: int) -> int:
    """Begin a new shelf with this job; ids up to its first are skipped."""
    connection.execute(sa.select(sa.func.setval(_IDS, first_job)))
    stop_job = first_job + (1 if item_count > SHELF_ITEMS else SHELF_JOBS)
    connection.execute(
        sa.insert(shelves).values(first_job=first_job, stop_job=stop_job, item_count=item_count)
    )
    borders = ["MINVALUE", *range(SHELF_ITEMS, item_count, SHELF_ITEMS)]
    starts = [f"{first_job}, {border}" for border in borders]
    for number, (start, stop) in enumerate(
        zip(starts, [*starts[1:], f"{stop_job}, MINVALUE"], strict=True)
    ):
        _add_partition(connection, f"images_{first_job}_{number}", start, stop)
    return first_job


def _add_partition(connection: Connection, name: str, start: str, stop: str) -> None:
    """Made apart and then attached: making it in place would lock out those who read images."""
    for statement in (
        f"CREATE TABLE {name} (LIKE images INCLUDING ALL)",
        f"ALTER TABLE images ATTACH PARTITION {name} FOR VALUES FROM ({start}) TO ({stop})",
    ):
        connection.exec_driver_sql(statement)


def _next_id(connection: Connection) -> int:
    return int(connection.execute(sa.select(sa.func.nextval(_IDS))).scalar_one())


def drop_rows(connection: Connection, job_id: int) -> None:
    """Remove all image rows of a job; those of one with a shelf of its own at no cost."""
    own = None
    if connection.dialect.name == "postgresql":
        own = connection.execute(
            sa.select(shelves).where(
                shelves.c.first_job == job_id, shelves.c.stop_job == job_id + 1
            )
        ).first()
    bounds = sa.select(sa.func.min(images.c.item), sa.func.max(images.c.item))
    first, last = connection.execute(bounds.where(images.c.job_id == job_id)).one()
    if first is not None:
        search_notes.note(connection, job_id, first, last + 1)
    if own is None:
        connection.execute(sa.delete(images).where(images.c.job_id == job_id))
        return
    for name in partitions(connection):
        if name.startswith(f"images_{job_id}_"):
            connection.exec_driver_sql(f"TRUNCATE {name}")


def partitions(connection: Connection) -> list[str]:
    """The names of the partitions of `images`."""
    found = connection.exec_driver_sql(
        "SELECT inhrelid::regclass::text FROM pg_inherits"
        " WHERE inhparent = 'images'::regclass ORDER BY inhrelid"
    )
    return list(found.scalars())
