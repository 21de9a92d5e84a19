"""The one door through which states change: every pair of state and verb."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import pytest
import sqlalchemy as sa

from storage.contract.errors import StaleTransition
from storage.contract.states import STEPS, Entity, JobState, TaskState, WorkerState, step
from storage.db import tables
from storage.db.engine import Ledger
from storage.db.transitions import advance, record
from storage.testing.factories import add_groups, cut_task

TABLES = {Entity.JOB: tables.jobs, Entity.TASK: tables.tasks, Entity.WORKER: tables.workers}
PAIRS: list[tuple[Entity, str, StrEnum]] = [
    (one.entity, one.verb, state)
    for one in STEPS
    for state in {Entity.JOB: JobState, Entity.TASK: TaskState, Entity.WORKER: WorkerState}[
        one.entity
    ]
]
Everything = Callable[[], dict[str, list[Any]]]


@pytest.fixture
def stocked(ledger: Ledger, worker_id: int) -> Ledger:
    """A ledger with a job, a worker and a task, each with the id 1."""
    add_groups(ledger, (4, 2))
    assert cut_task(ledger, worker_id)
    return ledger


def put_into(ledger: Ledger, entity: Entity, state: StrEnum) -> None:
    with ledger.write() as connection:
        connection.execute(sa.update(TABLES[entity]).values(state=state))


def state_of(ledger: Ledger, entity: Entity) -> str:
    with ledger.read() as connection:
        return str(connection.execute(sa.select(TABLES[entity].c.state)).scalar_one())


def events(ledger: Ledger, entity: Entity) -> list[tuple[float, str, str | None]]:
    table = tables.events
    statement = (
        sa.select(table.c.at, table.c.verb, table.c.detail)
        .where(table.c.entity == entity, table.c.entity_id == 1)
        .order_by(table.c.id)
    )
    with ledger.read() as connection:
        return [(row[0], row[1], row[2]) for row in connection.execute(statement)]


@pytest.mark.parametrize(("entity", "verb", "state"), PAIRS)
def test_a_verb_is_taken_from_its_states_only_and_leaves_an_event(
    stocked: Ledger, everything: Everything, entity: Entity, verb: str, state: StrEnum
) -> None:
    put_into(stocked, entity, state)
    before, past = everything(), events(stocked, entity)

    if state in step(entity, verb).before:
        with stocked.write() as connection:
            advance(connection, entity, 1, verb, now=9.0, detail="why")
        assert state_of(stocked, entity) == step(entity, verb).after
        assert events(stocked, entity) == [*past, (9.0, verb, "why")]
    else:
        says = f"cannot {verb} {entity} 1: it is not .* any more"
        with stocked.write() as connection, pytest.raises(StaleTransition, match=says):
            advance(connection, entity, 1, verb, now=9.0)
        assert everything() == before


def test_a_step_of_a_row_that_is_not_there_is_stale(stocked: Ledger) -> None:
    with stocked.write() as connection, pytest.raises(StaleTransition):
        advance(connection, Entity.JOB, 99, "pause", now=1.0)


def test_a_further_condition_must_hold_too(stocked: Ledger, everything: Everything) -> None:
    before = everything()
    only_if = (tables.tasks.c.lease == 8,)
    with stocked.write() as connection, pytest.raises(StaleTransition):
        advance(connection, Entity.TASK, 1, "fail", now=1.0, only_if=only_if)
    assert everything() == before


def test_a_step_touches_its_row_only_and_sets_what_it_is_given(stocked: Ledger) -> None:
    add_groups(stocked, (4, 2), name="other")
    with stocked.write() as connection:
        advance(connection, Entity.JOB, 1, "finish", now=1.0, finished_at=5.0)
    with stocked.read() as connection:
        found = connection.execute(
            sa.select(tables.jobs.c.state, tables.jobs.c.finished_at).order_by(tables.jobs.c.id)
        )
        assert [tuple(row) for row in found] == [("finished", 5.0), ("open", None)]


def test_an_event_is_undone_with_its_step(stocked: Ledger, everything: Everything) -> None:
    def interrupted() -> None:
        with stocked.write() as connection:
            advance(connection, Entity.WORKER, 1, "drain", now=1.0)
            record(connection, Entity.WORKER, 1, "shout", now=2.0)
            raise KeyError

    before = everything()
    with pytest.raises(KeyError):
        interrupted()
    assert everything() == before
