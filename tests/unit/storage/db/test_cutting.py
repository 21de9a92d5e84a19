"""Cutting tasks: small groups many at once, groups that others hold, what was failed before."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from storage.contract.capability import Mode
from storage.contract.claims import Claim, ClaimedTask, Progress
from storage.contract.errors import LeaseLost
from storage.contract.outcomes import Reason, exhausted
from storage.contract.states import Entity
from storage.db import cutting, steering, tables, tasks, workers
from storage.db.engine import Ledger
from storage.db.transitions import advance
from storage.testing.factories import (
    add_groups,
    add_worker,
    cut_task,
    make_failure,
    make_image_row,
    ref_of,
)

IN_CPU = Claim(group_id=0, items=0, mode=Mode.CPU, batch=1, tiled=True, memory_bytes=5)


def cut_whole(ledger: Ledger, worker: int, *group_ids: int, now: float = 1.0) -> list[ClaimedTask]:
    lease = cutting.Lease(worker_id=worker, token=9, seconds=60.0)
    with ledger.write() as connection:
        return cutting.cut_whole(connection, group_ids, lease, IN_CPU, now=now)


def counters(ledger: Ledger) -> list[tuple[int, ...]]:
    """Next item, claimable, leased and done of each group."""
    table = tables.groups
    columns = (table.c.next_item, table.c.claimable, table.c.leased, table.c.done)
    with ledger.read() as connection:
        return [tuple(row) for row in connection.execute(sa.select(*columns).order_by(table.c.id))]


def waiting(ledger: Ledger) -> int:
    with ledger.read() as connection:
        return len(connection.execute(sa.select(tables.returned)).all())


def test_many_small_groups_are_cut_whole_at_once(ledger: Ledger, worker_id: int) -> None:
    add_groups(ledger, (1, 1), (2, 1), (3, 2))
    found = cut_whole(ledger, worker_id, 1, 3)
    assert [(one.group_id, one.first_item, one.stop_item) for one in found] == [
        (1, 0, 1),
        (3, 3, 6),
    ]
    assert all((one.batch, one.tiled, one.memory_bytes) == (1, True, 5) for one in found)
    assert counters(ledger) == [(1, 0, 1, 0), (1, 2, 0, 0), (6, 0, 3, 0)]
    with ledger.read() as connection:
        held = tasks.leased_by(connection, worker_id)
    assert {ref.task_id for ref in held} == {one.task_id for one in found}


def test_only_what_nobody_ever_claimed_from_is_cut_whole(ledger: Ledger, worker_id: int) -> None:
    add_groups(ledger, (4, 1), (4, 1))
    task = cut_task(ledger, worker_id, items=4)
    assert task
    with ledger.write() as connection:
        tasks.fail(connection, ref_of(task), make_failure())
    assert [one.group_id for one in cut_whole(ledger, worker_id, 1, 2)] == [2]
    assert cut_whole(ledger, worker_id, 1, 2) == []
    assert cut_whole(ledger, worker_id) == []


def test_small_groups_that_are_handed_back_can_be_cut_whole_again(
    ledger: Ledger, worker_id: int
) -> None:
    add_groups(ledger, (2, 1), (2, 1))
    cut_whole(ledger, worker_id, 1, 2)
    with ledger.write() as connection:
        assert tasks.end_all(connection, worker_id, now=2.0) == [2, 2]
    assert waiting(ledger) == 0
    assert counters(ledger) == [(0, 2, 0, 0), (2, 2, 0, 0)]
    assert len(cut_whole(ledger, worker_id, 1, 2)) == 2


def test_what_had_not_begun_when_its_worker_died_is_not_to_blame(
    ledger: Ledger, worker_id: int
) -> None:
    add_groups(ledger, (1, 1), (1, 1), (1, 1))
    _, begun, _ = cut_whole(ledger, worker_id, 1, 2, 3)
    with ledger.write() as connection:
        tasks.start(connection, ref_of(begun), expires_at=99.0, now=5.0)
        crash = make_failure(reason=Reason.CRASHED, worker_id=worker_id)
        tasks.end_all(connection, worker_id, now=6.0, failure=crash)
    after = [cut_task(ledger, worker_id, group_id=group, now=99.0) for group in (1, 2, 3)]
    blamed = [[one.reason for one in task.failures] for task in after if task]
    assert blamed == [[], [Reason.CRASHED], []]


def test_to_start_what_was_lost_meanwhile_fails(ledger: Ledger, worker_id: int) -> None:
    add_groups(ledger, (1, 1))
    (task,) = cut_whole(ledger, worker_id, 1)
    with ledger.write() as connection:
        tasks.hand_back(connection, ref_of(task), now=2.0)
    with pytest.raises(LeaseLost), ledger.write() as connection:
        tasks.start(connection, ref_of(task), expires_at=99.0, now=3.0)


def test_leases_of_what_waits_are_renewed_together_and_lost_ones_passed_over(
    ledger: Ledger, worker_id: int
) -> None:
    add_groups(ledger, (1, 1), (1, 1), (1, 1))
    one, two, three = cut_whole(ledger, worker_id, 1, 2, 3)
    with ledger.write() as connection:
        tasks.hand_back(connection, ref_of(two), now=2.0)
        refs = [ref_of(task) for task in (one, two, three)]
        tasks.renew_waiting(connection, refs, expires_at=500.0)
        ends = connection.execute(
            sa.select(tables.tasks.c.lease_expires_at).order_by(tables.tasks.c.group_id)
        )
        assert ends.scalars().all() == [500.0, 61.0, 500.0]


def test_a_lease_that_was_renewed_meanwhile_does_not_lapse(ledger: Ledger, worker_id: int) -> None:
    add_groups(ledger, (1, 1))
    task = cut_task(ledger, worker_id, now=1.0)
    assert task
    lapsed = make_failure(reason=Reason.LAPSED)
    with ledger.write() as connection:
        tasks.renew(connection, ref_of(task), expires_at=200.0)
    with pytest.raises(LeaseLost), ledger.write() as connection:
        tasks.lapse(connection, ref_of(task), now=100.0, failure=lapsed, overdue=True)
    with ledger.write() as connection:
        assert tasks.lapse(connection, ref_of(task), now=201.0, failure=lapsed, overdue=True) == 1


@pytest.mark.parametrize("end", ["pause", "cancel"])
def test_nothing_is_cut_from_a_job_that_was_stopped_since_it_was_read(
    ledger: Ledger, worker_id: int, end: str
) -> None:
    add_groups(ledger, (4, 1), (4, 1))
    with ledger.write() as connection:
        {"pause": steering.pause, "cancel": steering.cancel}[end](connection, 1, now=1.0)
    assert cut_task(ledger, worker_id) is None
    assert cut_whole(ledger, worker_id, 1, 2) == []


def test_a_drained_worker_gets_nothing_until_it_is_woken(ledger: Ledger, worker_id: int) -> None:
    add_groups(ledger, (4, 1))
    with ledger.write() as connection:
        workers.drain(connection, worker_id, now=1.0, note="new driver")
    assert cut_task(ledger, worker_id) is None
    with ledger.write() as connection:
        workers.wake(connection, worker_id, now=2.0)
    assert cut_task(ledger, worker_id)


def test_what_a_worker_failed_is_left_to_another_that_could_do_it(
    ledger: Ledger, worker_id: int
) -> None:
    other = add_worker(ledger, pid=2)
    add_groups(ledger, (1, 1))
    task = cut_task(ledger, worker_id, now=10.0)
    assert task
    with ledger.write() as connection:
        tasks.fail(connection, ref_of(task), make_failure(at=10.0))

    def cut(worker: int, able: int, now: float) -> ClaimedTask | None:
        lease = cutting.Lease(worker_id=worker, token=3, seconds=60.0)
        claim = Claim(group_id=1, items=1, mode=Mode.CPU)
        with ledger.write() as connection:
            found = cutting.cut(connection, claim, lease, now=now, able=able)
            if found:
                tasks.hand_back(connection, ref_of(found), now=now)
            return found

    assert cut(worker_id, 2, 20.0) is None
    assert cut(worker_id, 1, 20.0)
    taken = cut(other, 2, 20.0)
    assert taken
    assert (taken.able, taken.failures[0].worker) == (2, "testhost/cpu#1")
    assert cut(worker_id, 2, 10.0 + 601.0)


def test_on_postgresql_a_group_somebody_holds_is_passed_over_or_waited_for(
    postgres_ledger: Ledger,
) -> None:
    ledger = postgres_ledger
    worker_id = add_worker(ledger)
    add_groups(ledger, (4, 1), (4, 1))
    claim = Claim(group_id=1, items=2, mode=Mode.CPU)
    lease = cutting.Lease(worker_id=worker_id, token=3, seconds=60.0)
    waited: list[ClaimedTask | None] = []

    def wait_for_it() -> None:
        with ledger.write() as connection:
            waited.append(cutting.cut(connection, claim, lease, now=1.0))

    with ledger.write() as holder:
        assert cutting.cut(holder, claim, lease, now=1.0)
        with ledger.write() as connection:
            assert cutting.cut(connection, claim, lease, now=1.0, wait=False) is None
            found = cutting.cut_whole(connection, [1, 2], lease, IN_CPU, now=1.0)
            assert [one.group_id for one in found] == [2]
        thread = threading.Thread(target=wait_for_it)
        thread.start()
        _until_one_waits(ledger)
    thread.join(30)
    assert waited[0]
    assert (waited[0].first_item, waited[0].stop_item) == (2, 4)


def _until_one_waits(ledger: Ledger) -> None:
    """Return once a session of this database waits for a lock."""
    waits = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    for _ in range(10_000):
        with ledger.read() as connection:
            if connection.exec_driver_sql(waits).scalar_one():
                return
    pytest.fail("nobody waits")


def test_a_task_that_kills_its_worker_ends_also_where_nobody_buries_it(ledger: Ledger) -> None:
    """No supervisor is left: the leases run out, and that alone must come to an end."""
    worker_id = add_worker(ledger)
    add_groups(ledger, (8, 1))
    now, attempts = 0.0, 0
    while (task := cut_task(ledger, worker_id, items=8, now=now, lease=attempts)) is not None:
        attempts += 1
        assert attempts < 100
        items = range(task.first_item, task.stop_item)
        with ledger.write() as connection:
            if exhausted(task.failures, task.items):
                rows = [make_image_row(task, item, outcome="failed") for item in items]
                tasks.commit(connection, ref_of(task), rows, expires_at=1e9, now=now)
            elif 5 in items:
                lapsed = make_failure(reason=Reason.LAPSED, at=now)
                tasks.lapse(connection, ref_of(task), now=now, failure=lapsed)
            else:
                rows = [make_image_row(task, item) for item in items]
                tasks.commit(connection, ref_of(task), rows, expires_at=1e9, now=now)
        now += 100.0
    assert counters(ledger) == [(8, 0, 0, 7)]


def test_a_worker_taken_for_gone_is_live_again_when_it_beats(ledger: Ledger) -> None:
    worker_id = add_worker(ledger)
    with ledger.write() as connection:
        advance(connection, Entity.WORKER, worker_id, "leave", now=2.0)
        assert workers.beat(connection, worker_id, Progress(), now=3.0) == "live"
        assert [one.id for one in workers.present(connection)] == [worker_id]
