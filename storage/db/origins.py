"""Where images come from: what their input pictures were taken from, and who rendered them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.db.rows import batched, upsert
from storage.db.tables import jobs, origins, workers

_ROWS_PER_QUERY = 1_000


def note(connection: Connection, images: Mapping[str, str]) -> None:
    """Remember from which image (JOB/ITEM) each input picture was taken, by its key.

    Pictures are named by their content, so one that came from two images has the first.
    """
    rows = [{"object_key": key, "image": image} for key, image in sorted(images.items())]
    for some in batched(rows, _ROWS_PER_QUERY):
        connection.execute(upsert(connection, origins).on_conflict_do_nothing(), list(some))


def of_pictures(connection: Connection, keys: Sequence[str]) -> dict[str, str]:
    """The images that these input pictures were taken from, as far as they were."""
    found = connection.execute(sa.select(origins).where(origins.c.object_key.in_(keys)))
    return {row.object_key: row.image for row in found}


def worker_of(connection: Connection, worker_id: int) -> str | None:
    """A worker's name, however long it is gone."""
    statement = sa.select(workers.c.name).where(workers.c.id == worker_id)
    return connection.execute(statement).scalar()


def job_of(connection: Connection, job_id: int) -> tuple[str, str] | None:
    """A job's name, and the manifest it was made from."""
    row = connection.execute(
        sa.select(jobs.c.name, jobs.c.manifest).where(jobs.c.id == job_id)
    ).first()
    return (row[0], row[1]) if row else None
