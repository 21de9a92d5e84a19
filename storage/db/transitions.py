"""The one door through which states change, and the record of each change."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.contract.errors import StaleTransition
from storage.contract.states import Entity, step
from storage.db import tables

_TABLES = {Entity.JOB: tables.jobs, Entity.TASK: tables.tasks, Entity.WORKER: tables.workers}


def advance(
    connection: Connection,
    entity: Entity,
    row_id: int,
    verb: str,
    *,
    now: float,
    only_if: tuple[sa.ColumnElement[bool], ...] = (),
    detail: str | None = None,
    **fields: Any,
) -> None:
    """Take the step `verb` and record it, in the caller's transaction.

    `only_if` are further conditions on the row (a lease, say); `fields` are set with the
    state. Raises `StaleTransition` if no row is in a state the step starts from.
    """
    chosen = step(entity, verb)
    table = _TABLES[entity]
    changed = connection.execute(
        sa.update(table)
        .where(table.c.id == row_id, table.c.state.in_(chosen.before), *only_if)
        .values(state=chosen.after, **fields)
    )
    if changed.rowcount != 1:
        before = " or ".join(chosen.before)
        raise StaleTransition(f"cannot {verb} {entity} {row_id}: it is not {before} any more")
    record(connection, entity, row_id, verb, now=now, detail=detail)


def record(
    connection: Connection,
    entity: Entity,
    row_id: int,
    verb: str,
    *,
    now: float,
    detail: str | None = None,
) -> None:
    """Append to the events what happened to a row."""
    connection.execute(
        sa.insert(tables.events).values(
            at=now, entity=entity, entity_id=row_id, verb=verb, detail=detail
        )
    )
