"""What can be claimed: most urgent first, a fair and bounded choice of very many groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import sqlalchemy as sa

from storage.contract.claims import OpenGroup
from storage.contract.states import Entity
from storage.db import jobs, offers, set_aside, tables
from storage.db.engine import Ledger
from storage.db.offers import offer, open_groups
from storage.db.transitions import advance
from storage.objects.memory import MemoryStore
from storage.testing.factories import (
    add_groups,
    add_job,
    add_worker,
    cut_task,
    make_failure,
    make_requirements,
    make_spec,
)

PlanOf = Callable[[Callable[[sa.Connection], Iterable[Any]]], list[str]]


def open_ids(ledger: Ledger, *, limit: int = 99, job_id: int | None = None) -> list[int]:
    with ledger.read() as connection:
        found = open_groups(connection, limit=limit, job_id=job_id)
    return [group.group_id for group in found]


def test_an_open_group_tells_the_policy_what_it_needs(ledger: Ledger, store: MemoryStore) -> None:
    spec, needs = make_spec(denoise=3), make_requirements(9, resident=99)
    job = add_job(ledger, store, spec=spec, requirements=needs, priority=5)
    with ledger.read() as connection:
        assert open_groups(connection, limit=9, job_id=None) == [
            OpenGroup(
                group_id=1,
                job_id=job.id,
                model=spec.model,
                priority=5,
                claimable=8,
                batch_size=3,
                requirements=needs,
                profile_key=spec.profile_key,
                submitted_at=1.0,
            )
        ]


def test_urgent_jobs_come_first_then_older_ones(ledger: Ledger, store: MemoryStore) -> None:
    for name, priority in (("first", 0), ("urgent", 9), ("later", 0), ("never mind", -1)):
        add_job(ledger, store, name=name, priority=priority)
    assert open_ids(ledger) == [2, 1, 3, 4]
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


def submit(ledger: Ledger, name: str, groups: list[jobs.NewGroup], **job: Any) -> int:
    """A job of these groups; returns its id."""
    new = jobs.NewJob(
        name=name,
        digest=name,
        token=name,
        manifest=name,
        settings="{}",
        item_count=groups[-1].stop_item,
        **job,
    )
    with ledger.write() as connection:
        return jobs.create(connection, new, groups, [], now=5.0)


def singles(count: int, *, model: str = "starter", first: int = 0, gib: int = 1) -> list[Any]:
    """Groups of one item each."""
    return [
        jobs.NewGroup(
            spec=make_spec(model=model, guidance_scale=float(number)),
            requirements=make_requirements(gib << 30),
            first_item=number,
            stop_item=number + 1,
        )
        for number in range(first, first + count)
    ]


def test_a_group_tells_of_its_job_and_of_who_is_at_work_on_it(ledger: Ledger) -> None:
    submit(ledger, "a", singles(3), submitter="ada", deadline_at=99.0, cpu="never", priority=2)
    submit(ledger, "b", singles(2), submitter="ada")
    workers = [add_worker(ledger, pid=pid) for pid in (1, 2)]
    for worker, group in ((workers[0], 1), (workers[1], 2), (workers[1], 4)):
        assert cut_task(ledger, worker, group_id=group, lease=group, now=7.0)
    with ledger.read() as connection:
        first, second = open_groups(connection, limit=9, job_id=None)
    assert (first.group_id, first.job_leases, first.submitter_leases) == (3, 2, 3)
    assert (first.submitter, first.deadline_at, first.cpu) == ("ada", 99.0, "never")
    assert (first.submitted_at, first.last_claimed_at) == (5.0, None)
    assert (second.group_id, second.job_leases, second.submitter_leases) == (5, 1, 3)


def test_what_is_left_of_a_group_that_was_claimed_from_says_when_and_how_much(
    ledger: Ledger, worker_id: int
) -> None:
    add_groups(ledger, (10, 2))
    cut_task(ledger, worker_id, items=4, now=7.0)
    with ledger.read() as connection:
        (group,) = open_groups(connection, limit=9, job_id=None)
    assert (group.claimable, group.leased, group.last_claimed_at) == (6, 4, 7.0)


def test_no_class_of_groups_hides_the_others_however_many_it_has(ledger: Ledger) -> None:
    submit(ledger, "many", [*singles(300), *singles(5, model="rare", first=300)], priority=9)
    submit(ledger, "large", [*singles(300), *singles(5, first=300, gib=20)])
    with ledger.read() as connection:
        found = offer(connection, limit=40)
    shown: dict[tuple[int, str, int], int] = {}
    for group in found.groups:
        key = (group.job_id, group.model, group.requirements.modes[0].memory_bytes >> 30)
        shown[key] = shown.get(key, 0) + 1
    assert shown == {
        (1, "starter", 1): 10,
        (1, "rare", 1): 5,
        (2, "starter", 1): 10,
        (2, "starter", 20): 5,
    }
    assert found.more
    assert [group.job_id for group in found.groups] == [1] * 15 + [2] * 15


def test_few_large_groups_say_as_much_as_many_small_ones(ledger: Ledger) -> None:
    add_groups(ledger, *[(5000, 4)] * 50)
    with ledger.read() as connection:
        found = offer(connection, limit=1000)
    assert (len(found.groups), found.more) == (8, True)
    assert [group.group_id for group in found.groups] == list(range(1, 9))


@pytest.mark.parametrize(("limit", "more"), [(9, False), (3, True), (1, True)])
def test_it_says_whether_there_are_more(ledger: Ledger, limit: int, more: bool) -> None:
    add_groups(ledger, *[(2, 1)] * 3)
    with ledger.read() as connection:
        found = offer(connection, limit=limit)
    assert (len(found.groups), found.more) == (min(limit, 3), more)


def test_nothing_open_offers_nothing(ledger: Ledger) -> None:
    with ledger.read() as connection:
        assert offer(connection, limit=9) == offers.Offer([], False)


def test_a_worker_that_is_set_aside_is_not_offered_the_group_until_its_time_is_over(
    ledger: Ledger, worker_id: int
) -> None:
    add_groups(ledger, (4, 2), (4, 2))
    name = "testhost/cpu#1"
    with ledger.write() as connection:
        for _ in range(3):
            failure = make_failure(worker=name, worker_id=worker_id)
            set_aside.count(connection, 1, failure, now=10.0)

    def offered(worker: str, now: float) -> list[int]:
        with ledger.read() as connection:
            found = offer(connection, limit=9, worker_name=worker, now=now)
        return [group.group_id for group in found.groups]

    assert offered(name, 11.0) == [2]
    assert offered("another", 11.0) == [1, 2]
    assert offered(name, 10.0 + set_aside.FIRST_SECONDS) == [1, 2]


def test_looking_for_work_skips_through_the_index(sqlite_ledger: Ledger, plan_of: PlanOf) -> None:
    submit(sqlite_ledger, "a", singles(3))
    plan = plan_of(lambda c: open_groups(c, limit=10, job_id=None))

    searches = [step for step in plan if "ix_groups_claimable" in step]
    assert any("(job_id=? AND model=? AND fit_key>?)" in step for step in searches), plan
    assert any("(job_id=? AND model=? AND fit_key=?)" in step for step in searches)
    assert not any(step.startswith(("SCAN groups", "SCAN shown", "SCAN own")) for step in plan)


def test_on_postgresql_a_claim_reads_no_more_of_the_index_than_it_shows(
    postgres_ledger: Ledger,
) -> None:
    """However much of a job is done, and whatever the statistics say of it."""
    submit(postgres_ledger, "done", singles(3000))
    submit(postgres_ledger, "open", singles(3000))
    with postgres_ledger.write() as connection:
        done = tables.groups.c.job_id == 1
        connection.execute(sa.update(tables.groups).where(done).values(claimable=0))
    with postgres_ledger.read() as connection:
        statement = offers._members(False, True)
        compiled = statement.compile(dialect=connection.dialect)
        values = compiled.construct_params({"limit": 20, "worker": "", "now": 0.0})
        rows = connection.exec_driver_sql(
            f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {compiled}", values
        )
        plan = "\n".join(rows.scalars())
    assert "Seq Scan on groups" not in plan
    assert "Rows Removed by Filter: 3" not in plan
