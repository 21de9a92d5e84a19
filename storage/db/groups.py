"""Groups: what can be claimed, and how far each one is."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.contract.capability import Requirements
from storage.contract.claims import OpenGroup
from storage.contract.items import GroupSpec
from storage.contract.states import JobState
from storage.db.tables import groups, jobs

_REQUIREMENTS = msgspec.json.Decoder(Requirements)
_SPEC = msgspec.json.Decoder(GroupSpec)


class GroupView(msgspec.Struct, frozen=True, kw_only=True):
    """A group's place and counters."""

    id: int
    job_id: int
    spec: GroupSpec
    requirements: Requirements
    first_item: int
    stop_item: int
    claimable: int
    leased: int
    done: int
    failed: int


def open_groups(connection: Connection, *, limit: int, job_id: int | None) -> list[OpenGroup]:
    """Groups with claimable items of open jobs, most urgent jobs first, then oldest.

    `job_id` narrows them to one job (a worker that was started for it).
    """
    statement = (
        sa.select(
            groups.c.id,
            groups.c.job_id,
            groups.c.model,
            jobs.c.priority,
            groups.c.claimable,
            groups.c.batch_size,
            groups.c.requirements,
            groups.c.profile_key,
        )
        .join(jobs, jobs.c.id == groups.c.job_id)
        .where(groups.c.claimable > 0, jobs.c.state == JobState.OPEN)
        .order_by(jobs.c.priority.desc(), groups.c.job_id, groups.c.id)
        .limit(limit)
    )
    if job_id is not None:
        statement = statement.where(groups.c.job_id == job_id)
    return [
        OpenGroup(
            group_id=row.id,
            job_id=row.job_id,
            model=row.model,
            priority=row.priority,
            claimable=row.claimable,
            batch_size=row.batch_size,
            requirements=_REQUIREMENTS.decode(row.requirements),
            profile_key=row.profile_key,
        )
        for row in connection.execute(statement)
    ]


def of_job(
    connection: Connection, job_id: int, *, limit: int, after: int = 0
) -> Iterator[GroupView]:
    """A job's groups in the order of their items; `after` is the id the last page ended with."""
    statement = (
        sa.select(groups)
        .where(groups.c.job_id == job_id, groups.c.id > after)
        .order_by(groups.c.id)
        .limit(limit)
    )
    return (view_of(row) for row in connection.execute(statement))


def view_of(row: sa.Row[tuple[object, ...]]) -> GroupView:
    """A row of the groups table as a `GroupView`."""
    columns = row._mapping
    return GroupView(
        id=columns["id"],
        job_id=columns["job_id"],
        spec=_SPEC.decode(columns["spec"]),
        requirements=_REQUIREMENTS.decode(columns["requirements"]),
        first_item=columns["first_item"],
        stop_item=columns["stop_item"],
        claimable=columns["claimable"],
        leased=columns["leased"],
        done=columns["done"],
        failed=columns["failed"],
    )
