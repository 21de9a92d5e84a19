"""Objects that no row names, of jobs that have ended and of jobs that are gone.

The listing is taken as it comes, for S3 servers differ in its order; each object is looked up
by the job and item its key says. Objects of a job that goes on are left alone: a worker may be
about to record them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

import sqlalchemy as sa

from scheduler.service.checking.findings import Finding, Kind
from storage.db import checks
from storage.db.checks import JobPlace, Kept
from storage.db.engine import Ledger
from storage.ports import ObjectStore

FOLDERS: Final = ("renders/", "thumbnails/")
AT_ONCE: Final = 2000


def pages(store: ObjectStore, job: str | None) -> Iterator[list[tuple[str, int]]]:
    """Keys and sizes of pictures and thumbnails, some at a time; of one job, if it is named."""
    for folder in FOLDERS:
        listed = store.listed(folder if job is None else f"{folder}{job}/")
        while some := list(islice(listed, AT_ONCE)):
            yield some


def among(ledger: Ledger, listed: Sequence[tuple[str, int]]) -> list[Finding]:
    """Which of these objects nothing in the catalog names."""
    by_job: dict[str, list[tuple[str, int]]] = {}
    for key, size in listed:
        by_job.setdefault(_job_in(key), []).append((key, size))
    with ledger.read() as connection:
        return [
            finding
            for name, objects in by_job.items()
            for finding in _of_job(connection, name, objects)
        ]


def still_unnamed(
    connection: sa.Connection, name: str, keys: Sequence[str]
) -> tuple[JobPlace | None, set[str]]:
    """The job these keys say they belong to, and which of them no row names.

    None of them if the job goes on.
    """
    job = checks.job_named(connection, name)
    if job is None:
        return None, set(keys) - checks.named_anywhere(connection, keys)
    items = {key: item for key in keys if (item := _item_in(key)) is not None}
    numbers = sorted(set(items.values()))
    named = _named_by(checks.kept_of(connection, job.id, numbers))
    unnamed = [key for key in keys if key not in named]
    if not unnamed or not job.ended or checks.is_at_work(connection, job.id):
        return job, set()
    named = _named_by(checks.links_of(connection, job.id, numbers))
    odd = [key for key in unnamed if key not in items]  # no worker gives such names
    return job, set(unnamed) - named - checks.named_anywhere(connection, odd)


def _of_job(
    connection: sa.Connection, name: str, objects: Sequence[tuple[str, int]]
) -> Iterator[Finding]:
    job, unnamed = still_unnamed(connection, name, [key for key, _ in objects])
    for key, size in objects:
        if key in unnamed:
            yield Finding(
                kind=Kind.ORPHAN,
                job=name,
                job_id=job.id if job else 0,
                item=_item_in(key),
                key=key,
                detail=f"{size:,} bytes" + ("" if job else "; there is no such job"),
            )


def _named_by(rows: Iterator[Kept]) -> set[str]:
    return {key for row in rows for key in (row.object_key, row.thumbnail_key) if key is not None}


def _job_in(key: str) -> str:
    """The job's name in ``renders/shapes/00001/000001234.png``."""
    parts = key.split("/")
    return parts[1] if len(parts) > 2 else ""


def _item_in(key: str) -> int | None:
    stem = key.rpartition("/")[2].partition(".")[0]
    return int(stem) if stem.isdecimal() and stem.isascii() and len(stem) <= 18 else None
