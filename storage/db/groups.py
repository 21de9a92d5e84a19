"""Groups: how far each one is."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.contract.capability import Requirements
from storage.contract.items import GroupSpec
from storage.db.offers import open_groups
from storage.db.tables import groups

__all__ = ["GroupView", "of_job", "open_groups", "view_of"]

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


def get(connection: Connection, group_id: int) -> GroupView:
    """The group of that id; `LookupError` if there is none."""
    row = connection.execute(sa.select(groups).where(groups.c.id == group_id)).first()
    if row is None:
        raise LookupError(f"no group {group_id}")
    return view_of(row)


def require(connection: Connection, group_id: int, requirements: Requirements) -> None:
    """Have the group need that from now on; for what is claimed already nothing changes."""
    connection.execute(
        sa.update(groups)
        .where(groups.c.id == group_id)
        .values(
            requirements=msgspec.json.encode(requirements).decode(), fit_key=requirements.fit_key
        )
    )


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
