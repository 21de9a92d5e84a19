"""Where a job's items lie in the object store."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.db.tables import shards


def covering(
    connection: Connection, job_id: int, first_item: int, stop_item: int
) -> list[tuple[int, str]]:
    """(first item, object key) of the shards that hold ``[first_item, stop_item)``, in order."""
    found = connection.execute(
        sa.select(shards.c.first_item, shards.c.object_key)
        .where(
            shards.c.job_id == job_id,
            shards.c.first_item < stop_item,
            shards.c.first_item + shards.c.item_count > first_item,
        )
        .order_by(shards.c.first_item)
    )
    return [(row.first_item, row.object_key) for row in found]
