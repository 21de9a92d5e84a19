"""Jobs: writing a submitted one, and reading what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.contract.capability import Requirements
from storage.contract.errors import NotFoundError
from storage.contract.items import GroupSpec
from storage.contract.states import Entity, JobState
from storage.db.bulk import insert_rows
from storage.db.rows import columns_of
from storage.db.shelves import job_id_for
from storage.db.tables import groups, jobs, shards
from storage.db.transitions import record


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """A checked manifest, ready to be written."""

    name: str
    digest: str
    token: str
    manifest: str
    settings: str
    priority: int = 0
    item_count: int
    rejected: int = 0
    submitter: str = ""
    deadline_at: float | None = None
    cpu: str = "auto"
    webhook: str | None = None
    output: str = ""


class NewGroup(msgspec.Struct, frozen=True, kw_only=True):
    """A group of a new job: the items ``[first_item, stop_item)``."""

    spec: GroupSpec
    requirements: Requirements
    first_item: int
    stop_item: int


class NewShard(msgspec.Struct, frozen=True, kw_only=True):
    """An object that holds `item_count` items from `first_item` on."""

    first_item: int
    item_count: int
    object_key: str


class Job(msgspec.Struct, frozen=True):
    """A job's row."""

    id: int
    name: str
    state: str
    digest: str
    token: str
    manifest: str
    settings: str
    priority: int
    item_count: int
    done: int
    failed: int
    rejected: int
    created_at: float
    finished_at: float | None
    submitter: str
    deadline_at: float | None
    cpu: str
    webhook: str | None
    output: str = ""  #: JSON of `OutputOptions`; empty: the defaults

    @property
    def remaining(self) -> int:
        """Items without an outcome."""
        return self.item_count - self.done - self.failed

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it by itself."""
        return self.state in (JobState.FINISHED, JobState.CANCELLED)


_JOB = columns_of(Job, jobs)
_ID_DIGITS = 18  # more do not fit into SQL's integers


def create(
    connection: Connection,
    job: NewJob,
    its_groups: Iterable[NewGroup],
    its_shards: Iterable[NewShard],
    *,
    now: float,
) -> int:
    """Write a job with its groups and shards, open for claiming; returns its id."""
    values = msgspec.structs.asdict(job)
    if (chosen := job_id_for(connection, job.item_count)) is not None:
        values["id"] = chosen
    job_id = connection.execute(
        sa.insert(jobs).values(**values, state=JobState.OPEN, created_at=now).returning(jobs.c.id)
    ).scalar_one()
    insert_rows(connection, groups, _GROUP_COLUMNS, [_group_row(job_id, g) for g in its_groups])
    insert_rows(
        connection,
        shards,
        ("job_id", "first_item", "item_count", "object_key"),
        [(job_id, shard.first_item, shard.item_count, shard.object_key) for shard in its_shards],
    )
    record(connection, Entity.JOB, job_id, "submit", now=now, detail=job.name)
    return int(job_id)


_GROUP_COLUMNS = (
    "job_id",
    "spec",
    "model",
    "requirements",
    "fit_key",
    "profile_key",
    "batch_size",
    "first_item",
    "stop_item",
    "next_item",
    "claimable",
)


def _group_row(job_id: int, group: NewGroup) -> tuple[object, ...]:
    return (
        job_id,
        msgspec.json.encode(group.spec).decode(),
        group.spec.model,
        msgspec.json.encode(group.requirements).decode(),
        group.requirements.fit_key,
        group.spec.profile_key,
        group.spec.batch.denoise,
        group.first_item,
        group.stop_item,
        group.first_item,
        group.stop_item - group.first_item,
    )


def find(connection: Connection, reference: str) -> Job:
    """The job of that name, or else number; `NotFoundError` names the newest ones."""
    row = connection.execute(sa.select(*_JOB).where(jobs.c.name == reference)).first()
    if row is None and reference.isdecimal() and len(reference) <= _ID_DIGITS:
        row = connection.execute(sa.select(*_JOB).where(jobs.c.id == int(reference))).first()
    if row is None:
        latest = [job.name for job in newest(connection, limit=5)]
        known = f"the newest are: {', '.join(latest)}" if latest else "there are none yet"
        raise NotFoundError(f"no job {reference!r}; {known}", hint="list them: rendermill jobs")
    return Job(*row)


def get(connection: Connection, job_id: int) -> Job:
    """The job with that id, which must exist."""
    return Job(*connection.execute(sa.select(*_JOB).where(jobs.c.id == job_id)).one())


def by_name(connection: Connection, name: str) -> Job | None:
    """The job of that name, if there is one."""
    row = connection.execute(sa.select(*_JOB).where(jobs.c.name == name)).first()
    return Job(*row) if row else None


def newest(connection: Connection, *, limit: int, before: int | None = None) -> Iterator[Job]:
    """Jobs from the newest on; `before` is the id the last page ended with."""
    statement = sa.select(*_JOB).order_by(jobs.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(jobs.c.id < before)
    return (Job(*row) for row in connection.execute(statement))


def names_like(connection: Connection, stem: str) -> set[str]:
    """Names that are `stem` or start with ``stem-``, for choosing one that is free."""
    pattern = stem.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "-%"
    found = connection.execute(
        sa.select(jobs.c.name).where(
            sa.or_(jobs.c.name == stem, jobs.c.name.like(pattern, escape="\\"))
        )
    )
    return set(found.scalars())
