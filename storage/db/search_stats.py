"""Sums over images that match a query, by what they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.engine import Connection

from storage.contract.outcomes import Outcome
from storage.contract.search import TAG, Field, Tree
from storage.db.search import matching
from storage.db.search_plan import Planner
from storage.db.search_terms import IS
from storage.db.tables import images, jobs, workers

MOST_GROUPS: Final = 10_000


class Sums(msgspec.Struct, frozen=True):
    """Of one group."""

    values: tuple[str | int | float | None, ...]
    images: int
    failed: int
    seconds: float
    gpu_seconds: float
    bytes: int


def sums(connection: Connection, tree: Tree, by: Sequence[Field]) -> list[Sums]:
    """Images by the values of these fields, most images first; at most `MOST_GROUPS` groups."""
    plan = Planner(connection).whole(tree)
    values = [_value(connection, one).label(f"by_{place}") for place, one in enumerate(by)]
    seconds = sa.func.coalesce(images.c.seconds, 0.0)
    on_cpu = sa.or_(images.c.rendering.is_(None), images.c.rendering.contains('"mode":"cpu"'))
    total = sa.func.count().label("images")
    statement = (
        sa.select(
            *values,
            total,
            sa.func.sum(sa.case((images.c.outcome == Outcome.FAILED, 1), else_=0)),
            sa.func.sum(seconds),
            sa.func.sum(sa.case((on_cpu, 0.0), else_=seconds)),
            sa.func.coalesce(sa.func.sum(images.c.bytes), 0),
        )
        .select_from(images)
        .order_by(total.desc(), *values)
        .limit(MOST_GROUPS)
    )
    if values:
        statement = statement.group_by(*values)
    if plan.parts:
        found = matching(connection, plan).cte("hits")
        same = sa.and_(images.c.job_id == found.c.job_id, images.c.item == found.c.item)
        statement = statement.where(same).select_from(found)
    elif connection.dialect.name == "postgresql":  # all images are read: in the order they lie in
        connection.exec_driver_sql("SET LOCAL enable_seqscan = on")
    width = len(values)
    rows = connection.execute(statement).all()
    return [
        Sums(tuple(row[:width]), int(row[width]), int(row[width + 1] or 0),
             float(row[width + 2] or 0), float(row[width + 3] or 0), int(row[width + 4]))
        for row in rows
    ]  # fmt: skip


def _value(connection: Connection, known: Field) -> sa.ColumnElement[Any]:
    source = known.source
    if source == "job.name":
        return sa.select(jobs.c.name).where(jobs.c.id == images.c.job_id).scalar_subquery()
    if source == "worker.name":
        return sa.select(workers.c.name).where(workers.c.id == images.c.worker_id).scalar_subquery()
    if source.startswith("rendering."):
        return _json(connection, images.c.rendering, source.partition(".")[2])
    if source in IS:
        return sa.case((images.c[IS[source]].is_not(None), "true"), else_="false")
    if known.name.startswith(TAG):
        return _tag(connection, known.name.removeprefix(TAG))
    return images.c[source]


def _json(connection: Connection, column: sa.Column[Any], key: str) -> sa.ColumnElement[Any]:
    """A value of a JSON object; `key` is one of ours."""
    if connection.dialect.name == "postgresql":
        value: sa.ColumnElement[Any] = sa.cast(column, JSON)[key].as_string()
        return value
    return sa.func.json_extract(column, sa.literal_column(f"'$.\"{key}\"'"))


def _tag(connection: Connection, name: str) -> sa.ColumnElement[Any]:
    """A tag's value, whatever the case of its name."""
    call = "json_each_text" if connection.dialect.name == "postgresql" else "json_each"
    given = (
        sa.cast(images.c.tags, JSON) if connection.dialect.name == "postgresql" else images.c.tags
    )
    pairs = getattr(sa.func, call)(given).table_valued("key", "value")
    return (
        sa.select(sa.cast(pairs.c.value, sa.Text))
        .where(sa.func.lower(pairs.c.key) == sa.literal(name))
        .limit(1)
        .scalar_subquery()
    )
