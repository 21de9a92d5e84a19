"""Where an image comes from, for people and programs: from its row to the worker that made it."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from storage.contract.keys import image_id
from storage.contract.lineage import Lineage
from storage.db import origins
from storage.db.images import ImageRow


def descent_of(connection: sa.Connection, row: ImageRow) -> dict[str, Any]:
    """All that is known of where an image comes from, beside its own columns.

    `parents` are the images it was made from, by what they were to it: the one whose picture it
    has by a link, and those whose pictures its input pictures are.
    """
    told = msgspec.json.decode(row.lineage, type=Lineage) if row.lineage else Lineage()
    job = origins.job_of(connection, row.job_id)
    return {
        "manifest": job[1] if job else None,
        "template": told.template,
        "negative_template": told.negative_template,
        "pictures": list(told.pictures),
        "parents": _parents(connection, row, told),
        "worker": origins.worker_of(connection, row.worker_id),
        "attempts": told.attempts if row.object_key else None,
        "phase_seconds": dict(told.phase_seconds),
        "licence": told.licence,
    }


def _parents(connection: sa.Connection, row: ImageRow, told: Lineage) -> dict[str, Any]:
    parents: dict[str, Any] = {}
    if row.linked_job is not None and row.linked_item is not None:
        job = origins.job_of(connection, row.linked_job)
        if job is not None:
            parents["linked"] = image_id(job[0], row.linked_item)
    found = origins.of_pictures(connection, told.pictures) if told.pictures else {}
    made_from = [found[key] for key in told.pictures if key in found]
    if made_from:
        parents["made_from"] = made_from
    return parents
