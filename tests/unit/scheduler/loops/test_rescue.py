"""Ending leases that have run out, and those of workers that are gone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from scheduler.loops.rescue import SILENT_SECONDS, Rescued, rescue
from storage.contract.claims import ClaimedTask, Progress
from storage.contract.outcomes import Reason
from storage.contract.states import TaskState, WorkerState
from storage.db import groups, jobs, tasks, workers
from storage.db.engine import Ledger
from storage.db.tables import tasks as task_table
from storage.db.workers import Worker
from storage.objects.memory import MemoryStore
from storage.testing.factories import (
    FakeClock,
    add_job,
    add_worker,
    cut_task,
    make_image_row,
    ref_of,
)

LEASE_SECONDS = 60.0


def nobody_knows(_worker: Worker) -> None:
    """As of a worker on another machine."""


def all_live(_worker: Worker) -> bool:
    return True


def all_dead(_worker: Worker) -> bool:
    return False


@pytest.fixture
def clock(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """The ledger's time."""
    made = FakeClock(1.0)
    monkeypatch.setattr(ledger, "now", made)
    return made


@pytest.fixture
def cut(ledger: Ledger, store: MemoryStore, clock: FakeClock) -> Callable[..., ClaimedTask]:
    """Cuts tasks of a job of eight items, which is not the only one."""
    add_job(ledger, store, [])
    job = add_job(ledger, store, name="work")
    with ledger.read() as connection:
        (group,) = groups.of_job(connection, job.id, limit=1)

    def cut_one(worker_id: int, *, items: int = 4) -> ClaimedTask:
        task = cut_task(ledger, worker_id, items=items, group_id=group.id, now=clock.now)
        assert task is not None
        return task

    return cut_one


def states(ledger: Ledger) -> list[str]:
    with ledger.read() as connection:
        return list(connection.scalars(sa.select(task_table.c.state).order_by(task_table.c.id)))


def claimable(ledger: Ledger, task: ClaimedTask) -> tuple[int, int]:
    with ledger.read() as connection:
        (group,) = groups.of_job(connection, task.job_id, limit=1)
    return group.claimable, group.leased


def worker_states(ledger: Ledger) -> list[str]:
    with ledger.read() as connection:
        return [worker.state for worker in workers.present(connection)]


def test_with_nothing_wrong_nothing_is_done(
    ledger: Ledger, cut: Callable[..., ClaimedTask]
) -> None:
    task = cut(add_worker(ledger))
    assert rescue(ledger, is_alive=all_live) == Rescued()
    assert states(ledger) == [TaskState.LEASED]
    assert claimable(ledger, task) == (4, 4)


def test_a_lease_that_ran_out_gives_its_items_back_and_leaves_the_worker(
    ledger: Ledger, cut: Callable[..., ClaimedTask], clock: FakeClock
) -> None:
    task = cut(add_worker(ledger))
    clock.advance(LEASE_SECONDS)
    assert rescue(ledger, is_alive=all_live) == Rescued()  # to the second it holds
    clock.advance(0.1)
    assert rescue(ledger, is_alive=all_live) == Rescued(tasks=1, items=4)
    assert states(ledger) == [TaskState.LAPSED]
    assert claimable(ledger, task) == (8, 0)
    assert worker_states(ledger) == [WorkerState.LIVE]
    assert rescue(ledger, is_alive=all_live) == Rescued()


def test_a_lease_that_was_renewed_holds(
    ledger: Ledger, cut: Callable[..., ClaimedTask], clock: FakeClock
) -> None:
    task = cut(add_worker(ledger))
    clock.advance(LEASE_SECONDS + 1)
    with ledger.write() as connection:
        tasks.renew(connection, ref_of(task), expires_at=clock.now + 1)
    assert rescue(ledger, is_alive=all_live) == Rescued()


def test_a_dead_worker_is_signed_off_and_all_its_items_go_back_at_once(
    ledger: Ledger, cut: Callable[..., ClaimedTask]
) -> None:
    dead, living = add_worker(ledger, pid=1), add_worker(ledger, pid=2)
    task = cut(dead, items=4)
    cut(living, items=4)
    found = rescue(ledger, is_alive=lambda worker: worker.id != dead)
    assert found == Rescued(tasks=1, items=4, workers=1)
    assert states(ledger) == [TaskState.LAPSED, TaskState.LEASED]
    assert claimable(ledger, task) == (4, 4)
    assert worker_states(ledger) == [WorkerState.LIVE]


def test_a_dead_worker_whose_lease_ran_out_too_is_counted_once(
    ledger: Ledger, cut: Callable[..., ClaimedTask], clock: FakeClock
) -> None:
    cut(add_worker(ledger))
    clock.advance(LEASE_SECONDS + 1)
    assert rescue(ledger, is_alive=all_dead) == Rescued(tasks=1, items=4, workers=1)


def test_a_dead_worker_that_held_nothing_is_signed_off(ledger: Ledger) -> None:
    add_worker(ledger)
    assert rescue(ledger, is_alive=all_dead) == Rescued(workers=1)
    assert worker_states(ledger) == []
    assert rescue(ledger, is_alive=all_dead) == Rescued()


def test_a_worker_elsewhere_is_gone_when_it_was_silent_for_long(
    ledger: Ledger, cut: Callable[..., ClaimedTask], clock: FakeClock
) -> None:
    worker_id = add_worker(ledger)
    clock.advance(SILENT_SECONDS)
    with ledger.write() as connection:
        workers.beat(connection, worker_id, Progress(), now=clock.now)
    cut(worker_id)
    clock.advance(SILENT_SECONDS)
    assert rescue(ledger, is_alive=nobody_knows) == Rescued()
    clock.advance(0.1)
    assert rescue(ledger, is_alive=nobody_knows) == Rescued(tasks=1, items=4, workers=1)


def test_what_was_rendered_already_does_not_go_back(
    ledger: Ledger, cut: Callable[..., ClaimedTask], clock: FakeClock
) -> None:
    task = cut(add_worker(ledger))
    with ledger.write() as connection:
        tasks.commit(
            connection,
            ref_of(task),
            [make_image_row(task, 1), make_image_row(task, 2)],
            expires_at=clock.now + 1,
            now=clock.now,
        )
    clock.advance(2)
    assert rescue(ledger, is_alive=all_live) == Rescued(tasks=1, items=2)
    with ledger.read() as connection:
        job = jobs.get(connection, task.job_id)
    assert (job.done, job.remaining) == (2, 6)
    assert claimable(ledger, task) == (6, 0)


def test_the_items_come_back_with_what_happened(
    ledger: Ledger, cut: Callable[..., ClaimedTask]
) -> None:
    dead = add_worker(ledger, pid=1)
    cut(dead)
    rescue(ledger, is_alive=all_dead)
    again = cut(add_worker(ledger, pid=2))
    (failure,) = again.failures
    assert (again.first_item, again.stop_item) == (0, 4)
    assert (failure.reason, failure.worker_id) == (Reason.LAPSED, dead)
    assert failure.detail == "the process of testhost/cpu#1 is gone"


def test_a_task_that_ends_between_the_look_and_the_lock_is_left_alone(
    ledger: Ledger, cut: Callable[..., ClaimedTask], clock: FakeClock
) -> None:
    worker_id = add_worker(ledger)
    task = cut(worker_id)

    def hands_back_meanwhile(_worker: Worker) -> bool:
        with ledger.write() as connection:
            tasks.hand_back(connection, ref_of(task), now=clock.now)
            workers.leave(connection, worker_id, now=clock.now)
        return False

    assert rescue(ledger, is_alive=hands_back_meanwhile) == Rescued(workers=1)
    assert states(ledger) == [TaskState.RETURNED]
    assert claimable(ledger, task) == (8, 0)
