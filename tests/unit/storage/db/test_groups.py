"""Groups: what can be claimed, most urgent first, and how far each one is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import sqlalchemy as sa

from storage.contract.claims import OpenGroup
from storage.contract.states import Entity
from storage.db import groups, tables
from storage.db.engine import Ledger
from storage.db.transitions import advance
from storage.objects.memory import MemoryStore
from storage.testing.factories import (
    add_groups,
    add_job,
    cut_task,
    make_requirements,
    make_spec,
)

PlanOf = Callable[[Callable[[sa.Connection], Iterable[Any]]], list[str]]


def open_ids(ledger: Ledger, *, limit: int = 99, job_id: int | None = None) -> list[int]:
    with ledger.read() as connection:
        found = groups.open_groups(connection, limit=limit, job_id=job_id)
    return [group.group_id for group in found]


def test_an_open_group_tells_the_policy_what_it_needs(ledger: Ledger, store: MemoryStore) -> None:
    spec, needs = make_spec(denoise=3), make_requirements(9, resident=99)
    job = add_job(ledger, store, spec=spec, requirements=needs, priority=5)
    with ledger.read() as connection:
        assert groups.open_groups(connection, limit=9, job_id=None) == [
            OpenGroup(
                group_id=1,
                job_id=job.id,
                model=spec.model,
                priority=5,
                claimable=8,
                batch_size=3,
                requirements=needs,
                profile_key=spec.profile_key,
            )
        ]


def test_urgent_jobs_come_first_then_older_ones(ledger: Ledger, store: MemoryStore) -> None:
    for name, priority in (("first", 0), ("urgent", 9), ("later", 0), ("never mind", -1)):
        add_job(ledger, store, name=name, priority=priority)
    assert open_ids(ledger) == [2, 1, 3, 4]
    assert open_ids(ledger, limit=2) == [2, 1]
    assert open_ids(ledger, job_id=3) == [3]


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_nothing_is_claimed_from_a_job_that_is_not_open(ledger: Ledger, verb: str) -> None:
    add_groups(ledger, (4, 2), (4, 2))
    add_groups(ledger, (4, 2), name="other")
    with ledger.write() as connection:
        advance(connection, Entity.JOB, 1, verb, now=1.0)
    assert open_ids(ledger) == [3]
    assert open_ids(ledger, job_id=1) == []


def test_a_group_that_is_claimed_whole_is_not_open(ledger: Ledger, worker_id: int) -> None:
    add_groups(ledger, (4, 2), (4, 2))
    cut_task(ledger, worker_id, items=4, group_id=1)
    assert open_ids(ledger) == [2]


def test_a_jobs_groups_are_listed_in_order_page_by_page(ledger: Ledger) -> None:
    add_groups(ledger, (1, 1), (2, 1), (3, 1))
    add_groups(ledger, (1, 1), name="other")
    with ledger.read() as connection:
        first = list(groups.of_job(connection, 1, limit=2))
        second = list(groups.of_job(connection, 1, limit=2, after=first[-1].id))
    assert [(g.id, g.job_id, g.first_item, g.stop_item) for g in first + second] == [
        (1, 1, 0, 1),
        (2, 1, 1, 3),
        (3, 1, 3, 6),
    ]


def test_looking_for_work_reads_only_groups_that_have_some(ledger: Ledger, plan_of: PlanOf) -> None:
    everywhere = plan_of(lambda c: groups.open_groups(c, limit=10, job_id=None))
    in_one_job = plan_of(lambda c: groups.open_groups(c, limit=10, job_id=1))

    assert "SCAN groups USING INDEX ix_groups_claimable" in everywhere
    assert "SEARCH jobs USING INTEGER PRIMARY KEY (rowid=?)" in everywhere
    assert "SEARCH groups USING INDEX ix_groups_claimable (job_id=?)" in in_one_job
    assert not any(step.startswith("SCAN") for step in in_one_job)


def test_the_next_range_of_a_group_is_found_without_reading_the_others(
    ledger: Ledger, plan_of: PlanOf
) -> None:
    def ask(connection: sa.Connection) -> Iterable[Any]:
        due = tables.returned.c.not_before <= 1.0
        return connection.execute(
            sa.select(tables.returned)
            .where(tables.returned.c.group_id == 1, due)
            .order_by(tables.returned.c.first_item)
            .limit(1)
        )

    assert plan_of(ask) == ["SEARCH returned USING INDEX ix_returned_group_id (group_id=?)"]
