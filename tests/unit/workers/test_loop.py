from __future__ import annotations

import msgspec
import sqlalchemy as sa

from storage.contract.claims import ClaimedTask
from storage.contract.shards import pack
from storage.db import jobs, tables, tasks
from storage.db.engine import Ledger
from storage.objects.memory import MemoryStore
from storage.testing.factories import (
    add_job,
    make_capability,
    make_item,
    make_requirements,
    make_spec,
    ref_of,
)
from workers.claiming import Claimer
from workers.execute import Tools
from workers.loop import carry_out, work
from workers.stopping import Stop


def test_a_worker_works_until_there_is_nothing_left_to_claim(
    ledger: Ledger, store: MemoryStore, tools: Tools, stop: Stop
) -> None:
    job = add_job(ledger, store)
    claimer = Claimer(ledger, tools.worker_id, make_capability(), job_id=job.id)

    work(tools, claimer, stop, leave=lambda: True)

    with ledger.read() as connection:
        assert jobs.get(connection, job.id).ended


def test_a_worker_that_is_told_to_stop_claims_nothing_more(
    ledger: Ledger, store: MemoryStore, tools: Tools, stop: Stop
) -> None:
    job = add_job(ledger, store)
    stop.drain(0, "test")
    claimer = Claimer(ledger, tools.worker_id, make_capability(), job_id=None)

    work(tools, claimer, stop, leave=lambda: True)

    with ledger.read() as connection:
        assert jobs.get(connection, job.id).done == 0


def add_singles(ledger: Ledger, store: MemoryStore, count: int) -> int:
    """A job in which every item is a group of its own."""
    items = [make_item(number) for number in range(count)]
    store.put("jobs/s/items", pack([msgspec.msgpack.encode(item) for item in items], count))
    new = jobs.NewJob(
        name="s", digest="s", token="s", manifest="s", settings="{}", item_count=count
    )
    groups = [
        jobs.NewGroup(
            spec=make_spec(denoise=1, guidance_scale=1.0 + number),
            requirements=make_requirements(),
            first_item=number,
            stop_item=number + 1,
        )
        for number in range(count)
    ]
    shard = jobs.NewShard(first_item=0, item_count=count, object_key="jobs/s/items")
    with ledger.write() as connection:
        return jobs.create(connection, new, groups, [shard], now=1.0)


def bundle(ledger: Ledger, tools: Tools) -> tuple[tuple[ClaimedTask, ...], Claimer]:
    """Several small groups claimed at once, by a worker that knows its speed."""
    claimer = Claimer(ledger, tools.worker_id, make_capability(), job_id=None)
    first = claimer.claim("starter")
    carry_out(first, tools, claimer)
    claimed = claimer.claim("starter")
    assert len(claimed) >= 2
    return claimed, claimer


def states(ledger: Ledger, claimed: tuple[ClaimedTask, ...]) -> list[str]:
    ids = [task.task_id for task in claimed]
    table = tables.tasks
    with ledger.read() as connection:
        found = sa.select(table.c.state).where(table.c.id.in_(ids)).order_by(table.c.id)
        return list(connection.execute(found).scalars())


def test_small_groups_are_claimed_together_and_rendered_one_after_the_other(
    ledger: Ledger, store: MemoryStore, tools: Tools
) -> None:
    add_singles(ledger, store, 20)
    claimed, claimer = bundle(ledger, tools)
    assert len({task.group_id for task in claimed}) == len(claimed)

    carry_out(claimed, tools, claimer)

    assert set(states(ledger, claimed)) == {"finished"}


def test_a_worker_told_to_stop_hands_back_what_it_has_not_begun(
    ledger: Ledger, store: MemoryStore, tools: Tools, stop: Stop
) -> None:
    job_id = add_singles(ledger, store, 20)
    claimed, claimer = bundle(ledger, tools)
    stop.drain(60, "test")

    carry_out(claimed, tools, claimer)

    ended = states(ledger, claimed)
    assert set(ended[1:]) == {"returned"}
    with ledger.read() as connection:
        leased = sa.select(sa.func.sum(tables.groups.c.leased))
        assert connection.execute(leased).scalar_one() == 0
        assert tasks.leased_by(connection, tools.worker_id) == []
        assert not jobs.get(connection, job_id).ended


def test_a_task_whose_lease_was_lost_while_it_waited_is_passed_over(
    ledger: Ledger, store: MemoryStore, tools: Tools
) -> None:
    add_singles(ledger, store, 20)
    claimed, claimer = bundle(ledger, tools)
    with ledger.write() as connection:
        tasks.hand_back(connection, ref_of(claimed[1]), now=2.0)

    carry_out(claimed, tools, claimer)

    ended = states(ledger, claimed)
    assert (ended[0], ended[1], set(ended[2:])) == ("finished", "returned", {"finished"})
