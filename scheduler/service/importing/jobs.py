"""The job of imported pictures: finished from its first day, and growing by what is imported.

It has one group, of no items to claim, whose spec says that nothing was rendered. Its images
have no task and no worker. Each batch of pictures is one transaction: rows, counters and the
place reached, so that whatever ends an import, the job says what is true.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import sqlalchemy as sa

from scheduler.service.importing.settings import ImportSettings, settings_of
from storage.contract.capability import Requirements
from storage.contract.errors import InputError
from storage.contract.items import IMPORTED, GroupSpec
from storage.contract.keys import JOB_NAME
from storage.contract.states import Entity
from storage.db import images, tables
from storage.db import jobs as job_rows
from storage.db.engine import Ledger
from storage.db.images import ImageRow
from storage.db.transitions import advance, record

NOBODY: Final = 0
"""Number of the task and the worker that a picture has which none made."""

_SPEC: Final = GroupSpec(
    kind=IMPORTED,
    model="",
    width=0,
    height=0,
    num_inference_steps=0,
    guidance_scale=0.0,
    scheduler="",
)


class ImportJob(msgspec.Struct, frozen=True, kw_only=True):
    """Where pictures are imported to."""

    id: int
    name: str
    group_id: int
    items: int  #: it has already
    reached: str  #: the file an interrupted import came to
    folder: str


def open_job(ledger: Ledger, name: str, folder: Path) -> ImportJob:
    """The job of that name, which must be one of this folder's; it is made if there is none."""
    if not JOB_NAME.fullmatch(name):
        raise InputError(f"{name!r} cannot be a job's name", hint="small letters, digits, . _ -")
    with ledger.write() as connection:
        job = job_rows.by_name(connection, name)
        if job is None:
            job = _made(connection, name, folder, ledger.now())
        found = settings_of(job.settings)
        if found is None or found.imported != str(folder):
            raise InputError(
                f"there is a job {name!r} already, which is not of pictures from {folder}",
                hint="choose another --job-name",
            )
        group_id = connection.execute(
            sa.select(tables.groups.c.id).where(tables.groups.c.job_id == job.id)
        ).scalar_one()
    return ImportJob(
        id=job.id,
        name=name,
        group_id=group_id,
        items=job.item_count,
        reached=found.reached,
        folder=found.imported,
    )


def known_digests(ledger: Ledger, job: ImportJob) -> set[int]:
    """Of the pictures it has: the first 64 bits of each one's SHA-256."""
    column = tables.images.c.sha256
    with ledger.read() as connection:
        found = connection.execute(
            sa.select(column).where(tables.images.c.job_id == job.id, column.is_not(None))
        )
        return {short(digest) for digest in found.scalars()}


def short(sha256: str) -> int:
    """64 bits of a digest: a set of millions of them is still small."""
    return int(sha256[:16], 16)


def add(ledger: Ledger, job: ImportJob, rows: Sequence[ImageRow], reached: str) -> ImportJob:
    """Record imported pictures, whose objects are stored; the job as it is then."""
    count = len(rows)
    settings = ImportSettings(imported=job.folder, reached=reached)
    now = ledger.now()
    with ledger.write() as connection:
        changed = connection.execute(
            sa.update(tables.jobs)
            .where(tables.jobs.c.id == job.id, tables.jobs.c.item_count == job.items)
            .values(
                item_count=job.items + count,
                done=tables.jobs.c.done + count,
                settings=msgspec.json.encode(settings).decode(),
                finished_at=now,
            )
        )
        if changed.rowcount != 1:
            raise InputError(f"something else imports into {job.name}", hint="wait for it")
        if count:
            end = job.items + count
            connection.execute(
                sa.update(tables.groups)
                .where(tables.groups.c.id == job.group_id)
                .values(stop_item=end, next_item=end, done=tables.groups.c.done + count)
            )
            images.insert(connection, rows)
            record(connection, Entity.JOB, job.id, "import", now=now, detail=f"{count} pictures")
    return msgspec.structs.replace(job, items=job.items + count, reached=reached)


def _made(connection: sa.Connection, name: str, folder: Path, now: float) -> job_rows.Job:
    settings = msgspec.json.encode(ImportSettings(imported=str(folder)))
    new = job_rows.NewJob(
        name=name,
        digest=hashlib.sha256(settings).hexdigest(),
        token=secrets.token_hex(8),
        manifest=str(folder),
        settings=settings.decode(),
        item_count=0,
    )
    group = job_rows.NewGroup(
        spec=_SPEC, requirements=Requirements(modes=()), first_item=0, stop_item=0
    )
    job_id = job_rows.create(connection, new, [group], [], now=now)
    advance(connection, Entity.JOB, job_id, "finish", now=now, finished_at=now)
    return job_rows.get(connection, job_id)
