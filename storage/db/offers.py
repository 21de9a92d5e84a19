"""What can be claimed now: the open groups, a fair and bounded choice of them.

A job may have a hundred thousand open groups, most of them alike for the policy. So the groups
are read by classes (job, model, memory needed), a bounded number of each: for every class the
first group is found by skipping through the index, and then the next ones of each class.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.contract.capability import Requirements
from storage.contract.claims import OpenGroup
from storage.contract.states import JobState, TaskState
from storage.db.tables import groups, jobs, set_aside, tasks

_REQUIREMENTS: Final = msgspec.json.Decoder(Requirements)

_CLASSES: Final = 512
"""Looked at in one claim, those of the most urgent jobs first."""

_ITEMS: Final = 4096
"""Of a class, worth showing at once: no task is larger."""

_FEWEST: Final = 8
"""Groups shown of a class at least, so that claimers find another if one is held."""

Leases = dict[int, tuple[str, int]]  # by job: its submitter, and workers at work on it


class Offer(msgspec.Struct, frozen=True):
    """What was read of what is open."""

    groups: list[OpenGroup]
    more: bool  #: whether there are more than these


def open_groups(connection: Connection, *, limit: int, job_id: int | None) -> list[OpenGroup]:
    """Groups with claimable items of open jobs, most urgent jobs first, then oldest.

    About `limit` of them, each class having its share. `job_id` narrows them to one job (a
    worker that was started for it).
    """
    return offer(connection, limit=limit, job_id=job_id).groups


def offer(
    connection: Connection,
    *,
    limit: int,
    job_id: int | None = None,
    worker_name: str = "",
    now: float = 0.0,
) -> Offer:
    """The same, without what that worker is set aside for now; and whether there are more."""
    values = {
        "job": job_id,
        "limit": limit,
        "worker": worker_name,
        "now": now,
    }
    on_postgres = connection.dialect.name == "postgresql"
    if not on_postgres:  # which can bound a subquery only by what is known before
        heads = connection.execute(_heads(job_id is not None), values).all()
        smallest = min((head.claimable for head in heads), default=1)
        values["each"] = _each(limit, len(heads), smallest)
    members = connection.execute(_members(job_id is not None, on_postgres), values).all()
    if not members:
        return Offer([], False)
    leases = leases_by_job(connection)
    by_submitter: dict[str, int] = {}
    for submitter, count in leases.values():
        by_submitter[submitter] = by_submitter.get(submitter, 0) + count
    shown = [_open_group(row, leases, by_submitter) for row in members]
    return Offer(shown, _is_cut(members, limit))


def _each(limit: int, classes: int, claimable: int) -> int:
    """How many groups are shown of a class whose first has so many claimable items."""
    share = limit // max(1, classes)
    return max(1, min(share, max(_FEWEST, -(-_ITEMS // claimable))))


def leases_by_job(connection: Connection) -> Leases:
    """By job, its submitter and how many workers are at work on it.

    Tasks that wait for their turn at their worker are not counted.
    """
    return {row[0]: (row[1], row[2]) for row in connection.execute(_leases())}


@lru_cache(maxsize=1)
def _leases() -> sa.Select[Any]:
    return (
        sa.select(tasks.c.job_id, jobs.c.submitter, sa.func.count())
        .join(jobs, jobs.c.id == tasks.c.job_id)
        .where(tasks.c.state == TaskState.LEASED, tasks.c.started_at.is_not(None))
        .group_by(tasks.c.job_id, jobs.c.submitter)
    )


def _is_cut(rows: Sequence[Any], limit: int) -> bool:
    """Whether any class showed as many groups as it was allowed, or not all classes were read."""
    shown: dict[tuple[int, int], int] = {}
    for row in rows:
        head = (row.head_id, row.head_claimable)
        shown[head] = shown.get(head, 0) + 1
    classes = len(shown)
    return classes >= _CLASSES or any(
        count >= _each(limit, classes, claimable) for (_, claimable), count in shown.items()
    )


def _open_group(row: Any, leases: Leases, by_submitter: dict[str, int]) -> OpenGroup:
    return OpenGroup(
        group_id=row.id,
        job_id=row.job_id,
        model=row.model,
        priority=row.priority,
        claimable=row.claimable,
        batch_size=row.batch_size,
        requirements=requirements_of(row.requirements),
        profile_key=row.profile_key,
        submitter=row.submitter,
        submitted_at=row.created_at,
        deadline_at=row.deadline_at,
        cpu=row.cpu,
        last_claimed_at=row.last_claimed_at,
        leased=row.leased,
        job_leases=leases[row.job_id][1] if row.job_id in leases else 0,
        submitter_leases=by_submitter.get(row.submitter, 0),
    )


@lru_cache(maxsize=4096)
def requirements_of(text: str) -> Requirements:
    """Requirements as kept in SQL, decoded once: thousands of groups share a few texts."""
    return _REQUIREMENTS.decode(text)


@lru_cache(maxsize=2)
def _heads(one_job: bool) -> sa.Select[Any]:
    """The first open group of each class of the open jobs."""
    heads = _head_ids(one_job)
    first = groups.alias("first")
    return (
        sa.select(first.c.id, first.c.claimable)
        .join(heads, heads.c.id == first.c.id)
        .limit(_CLASSES)
    )


def _head_ids(one_job: bool) -> sa.CTE:
    """(group id, priority) of each class's first group, by skipping through the index.

    Each step asks for the first group beyond the class of the one before, which one look into
    the index answers, however many groups a class has.
    """
    open_jobs = jobs.alias("open_jobs")
    at, beyond = groups.alias("at"), groups.alias("beyond")
    order = (beyond.c.model, beyond.c.fit_key, beyond.c.id)
    of_job = (beyond.c.job_id == open_jobs.c.id, beyond.c.claimable > 0)
    start = sa.select(
        sa.select(beyond.c.id)
        .where(*of_job)
        .order_by(*order)
        .limit(1)
        .scalar_subquery()
        .label("id"),
        open_jobs.c.priority.label("priority"),
    ).where(open_jobs.c.state == JobState.OPEN)
    if one_job:
        start = start.where(open_jobs.c.id == sa.bindparam("job", type_=sa.BigInteger))
    heads = start.cte("heads", recursive=True)

    def first_beyond(*where: sa.ColumnElement[bool]) -> sa.ScalarSelect[Any]:
        return (
            sa.select(beyond.c.id)
            .where(beyond.c.job_id == at.c.job_id, beyond.c.claimable > 0, *where)
            .order_by(*order)
            .limit(1)
            .scalar_subquery()
        )

    # Not as one comparison of pairs: SQLite would read all groups of the model for it.
    following = sa.func.coalesce(
        first_beyond(beyond.c.model == at.c.model, beyond.c.fit_key > at.c.fit_key),
        first_beyond(beyond.c.model > at.c.model),
    )
    return heads.union_all(
        sa.select(following.label("id"), heads.c.priority).join(at, at.c.id == heads.c.id)
    )


@lru_cache(maxsize=4)
def _members(one_job: bool, on_postgres: bool) -> sa.Select[Any]:
    """The first groups of each class, with the number allowed of it."""
    heads = _head_ids(one_job)
    some = sa.select(heads).where(heads.c.id.is_not(None)).limit(_CLASSES).cte("some")
    first, shown = groups.alias("first"), groups.alias("shown")
    if on_postgres:
        own: Any = _members_on_postgres(some, first, shown).lateral("own")
        condition: Any = sa.and_(own.c.model == first.c.model, own.c.fit_key == first.c.fit_key)
    else:  # SQLite knows no LATERAL, but looks groups up one by one in a list that depends
        own = groups.alias("own")
        of_class = (shown.c[name] == first.c[name] for name in ("job_id", "model", "fit_key"))
        each = sa.bindparam("each", type_=sa.Integer)
        ids = sa.select(shown.c.id).where(*of_class, shown.c.claimable > 0)
        ids = ids.order_by(shown.c.id).limit(each)
        condition = own.c.id.in_(ids.correlate(first))
    return (
        sa.select(
            *[own.c[name] for name in _GROUP_COLUMNS],
            *[jobs.c[name] for name in _JOB_COLUMNS],
            first.c.id.label("head_id"),
            first.c.claimable.label("head_claimable"),
        )
        .select_from(some)
        .join(first, first.c.id == some.c.id)
        .join(jobs, jobs.c.id == first.c.job_id)
        .join(own, condition)
        .where(~_is_set_aside(own))
        .order_by(jobs.c.priority.desc(), own.c.job_id, own.c.id)
    )


def _members_on_postgres(some: sa.CTE, first: Any, shown: Any) -> sa.Select[Any]:
    """The next groups from a class's first on, in the order of the index; perhaps of the next.

    Asked for by equality, in the order of ids, they might be sought through all ids there are:
    which of the two is cheaper depends on how much of a job is done, which no statistics tell.
    """
    order = (shown.c.model, shown.c.fit_key, shown.c.id)
    from_first = sa.tuple_(*order) >= sa.tuple_(first.c.model, first.c.fit_key, first.c.id)
    classes = sa.select(sa.func.count()).select_from(some).scalar_subquery()
    share = sa.bindparam("limit", type_=sa.Integer) / sa.func.greatest(1, classes)
    enough = sa.func.greatest(_FEWEST, (_ITEMS + first.c.claimable - 1) / first.c.claimable)
    return (
        sa.select(shown)
        .where(shown.c.job_id == first.c.job_id, shown.c.claimable > 0, from_first)
        .order_by(*order)
        .limit(sa.func.greatest(1, sa.func.least(share, enough)))
    )


def _is_set_aside(group: sa.FromClause) -> sa.Exists:
    return sa.exists().where(
        set_aside.c.group_id == group.c.id,
        set_aside.c.worker_name == sa.bindparam("worker", type_=sa.Text),
        set_aside.c.until > sa.bindparam("now", type_=sa.Double),
    )


_GROUP_COLUMNS = (
    "id",
    "job_id",
    "model",
    "claimable",
    "batch_size",
    "requirements",
    "profile_key",
    "leased",
    "last_claimed_at",
)
_JOB_COLUMNS = ("priority", "submitter", "created_at", "deadline_at", "cpu")
