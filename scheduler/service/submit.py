"""Writing a checked manifest: shards into the object store, then one transaction."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import msgspec
import sqlalchemy as sa

from scheduler.manifest.source import shown_path
from scheduler.manifest.spool import ItemSpool
from scheduler.service.prepare import Prepared
from scheduler.service.reusing import Reuse
from storage.contract.errors import InputError, LedgerError, LedgerUnavailable, ObjectError
from storage.contract.keys import JOB_NAME, rejected_key, shard_key
from storage.db import jobs, origins
from storage.db.engine import Ledger
from storage.db.jobs import Job, NewJob, NewShard
from storage.ports import ObjectStore


class Submitted(msgspec.Struct, frozen=True, kw_only=True):
    """The job a manifest became, or had become before."""

    job: Job
    created: bool
    linked: int = 0  #: items whose images were in the catalog


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """How a fleet is to treat the job; none of it changes a picture."""

    submitter: str = ""
    deadline_at: float | None = None
    cpu: str = "auto"
    webhook: str | None = None


def submit(
    work: Prepared,
    manifest: str,
    *,
    ledger: Ledger,
    store: ObjectStore,
    terms: Terms | None = None,
    reuse: Reuse | None = None,
) -> Submitted:
    """Write the job, or find the one of that name made from the same manifest.

    If anything fails nothing of the job is left: the transaction comes last, and objects
    written for it are removed, save input pictures, which another job may have by now. With
    `reuse`, items whose images are in the catalog are linked and not rendered.
    """
    if work.name is not None:
        _check_name(work.name)
        with ledger.read() as connection:
            existing = _same(work, connection)
        if existing is not None:
            return Submitted(job=existing, created=False)
    token = secrets.token_hex(8)
    written: list[str] = []
    job: Job | None = None
    try:
        work.pictures.store_into(store)
        plan = reuse.plan(work.groups, work.output) if reuse is not None else None
        look = partial(plan.look, ledger) if plan is not None else None
        shards = list(_write_shards(work, token, store, written, look))
        with ledger.write() as connection:
            existing = _same(work, connection)  # somebody may have been faster
            if existing is not None:
                store.delete(written)
                return Submitted(job=existing, created=False)
            job_id = jobs.create(
                connection,
                NewJob(
                    name=work.name or _free_name(connection, work.suggested_name),
                    digest=work.digest,
                    token=token,
                    manifest=shown_path(manifest),
                    settings=work.settings,
                    output=work.output.encode(),
                    priority=work.priority,
                    item_count=work.items,
                    rejected=work.problems.rejected_rows,
                    **msgspec.structs.asdict(terms or Terms()),
                ),
                work.groups,
                shards,
                now=ledger.now(),
            )
            origins.note(connection, work.pictures.origins)
            linked = 0
            if plan is not None:
                linked = plan.link(connection, job_id, _spool_of(work), ledger.now())
            job = jobs.get(connection, job_id)
    except BaseException:
        with suppress(ObjectError, LedgerError):
            if job is None or not _is_there(ledger, job):
                store.delete(written)
        raise
    return Submitted(job=job, created=True, linked=linked)


def _is_there(ledger: Ledger, job: Job) -> bool:
    """Whether it was committed after all: an interrupt may come right after that."""
    with ledger.read() as connection:
        found = jobs.by_name(connection, job.name)
    return found is not None and found.token == job.token


def _check_name(name: str) -> None:
    if not JOB_NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be a job's name: it must be 1 to 64 small letters, digits, '.',"
            " '_' or '-', and begin with a letter or digit"
        )


def _same(work: Prepared, connection: sa.Connection) -> Job | None:
    """The job of that name, which must have been made from the same manifest."""
    if work.name is None:
        return None
    existing = jobs.by_name(connection, work.name)
    if existing is not None and existing.digest != work.digest:
        raise InputError(
            f"there is a job {work.name!r} already, made from another manifest or other settings"
            f" ({existing.manifest})",
            hint="choose another --name, or none",
        )
    return existing


def _spool_of(work: Prepared) -> ItemSpool:
    if not isinstance(work.sink, ItemSpool):
        raise TypeError("a dry run keeps no items to submit")
    return work.sink


def _write_shards(
    work: Prepared,
    token: str,
    store: ObjectStore,
    written: list[str],
    look: Callable[[int, bytes], None] | None,
) -> Iterator[NewShard]:
    for first, count, data in _spool_of(work).shards():
        if look is not None:
            look(first, data)
        key = shard_key(token, first)
        written.append(key)
        store.put(key, data)
        yield NewShard(first_item=first, item_count=count, object_key=key)
    if work.rejected is not None and work.problems.rejected_rows:
        work.rejected.seek(0)
        key = rejected_key(token)
        written.append(key)
        store.put(key, work.rejected.read())


def _free_name(connection: sa.Connection, stem: str) -> str:
    """`stem`, or ``stem-2`` and so on; the write lock keeps others from taking it too."""
    short = stem[:56]
    taken = jobs.names_like(connection, stem) | jobs.names_like(connection, short)
    if stem not in taken:
        return stem
    for number in range(2, len(taken) + 3):
        name = f"{short}-{number}"
        if name not in taken:
            return name
    raise LedgerUnavailable(f"no free name like {stem!r}")
