"""Steering jobs and workers, and how a farm stands, on a ledger alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from scheduler.loops.run import LEADER
from scheduler.service import control
from storage.contract.claims import ClaimedTask, Progress
from storage.contract.errors import InputError, NotFoundError
from storage.contract.outcomes import Outcome, Reason
from storage.contract.states import JobState, WorkerState
from storage.db import leaders, tasks, workers
from storage.db.engine import Ledger
from storage.objects.memory import MemoryStore
from storage.opening import Mill
from storage.settings import Connections
from storage.testing.factories import (
    FakeClock,
    add_job,
    add_worker,
    cut_task,
    make_image_row,
    make_requirements,
    ref_of,
)

UNREACHABLE = "amqp://user:secret@127.0.0.1:1//"


@pytest.fixture
def clock(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """The ledger's time."""
    made = FakeClock(1000.0)
    monkeypatch.setattr(ledger, "now", made)
    return made


@pytest.fixture
def mill(ledger: Ledger, store: MemoryStore, tmp_path: Path) -> Mill:
    """A home."""
    return Mill(connections=Connections(home=tmp_path), ledger=ledger, store=store)


@pytest.fixture
def farm(ledger: Ledger, store: MemoryStore, tmp_path: Path) -> Mill:
    """A farm whose broker is not there."""
    connections = Connections(
        home=tmp_path,
        database_url="postgresql://host/mill",
        broker_url=UNREACHABLE,
        storage_url="s3://bucket/prefix?endpoint=http://host",
    )
    return Mill(connections=connections, ledger=ledger, store=store)


def live_worker(ledger: Ledger, pid: int = 1) -> int:
    worker_id = add_worker(ledger, pid=pid)
    with ledger.write() as connection:
        workers.beat(connection, worker_id, Progress(), now=ledger.now())
    return worker_id


def render(ledger: Ledger, task: ClaimedTask | None, *, failed: int = 0, now: float = 2.0) -> None:
    """Commit all items of a task; the first ones fail."""
    assert task is not None
    rows = [
        make_image_row(task, item)
        if number >= failed
        else make_image_row(
            task, item, outcome=Outcome.FAILED, reason=Reason.ERROR, detail="boom", object_key=None
        )
        for number, item in enumerate(range(task.first_item, task.stop_item))
    ]
    with ledger.write() as connection:
        tasks.commit(connection, ref_of(task), rows, expires_at=99.0, now=now)


class TestJobs:
    def test_a_job_is_paused_and_resumed(self, ledger: Ledger, store: MemoryStore) -> None:
        add_job(ledger, store)

        assert control.pause(ledger, "job").state == JobState.PAUSED
        assert control.resume(ledger, "job").state == JobState.OPEN
        assert control.resume(ledger, "1").state == JobState.OPEN, "safe to repeat, by number too"

    def test_what_cannot_be_done_says_the_state_and_what_can(
        self, ledger: Ledger, store: MemoryStore
    ) -> None:
        add_job(ledger, store)
        control.cancel(ledger, "job")

        for step, what in ((control.pause, "paused"), (control.resume, "resumed")):
            with pytest.raises(InputError) as refused:
                step(ledger, "job")
            assert refused.value.message == f"job is cancelled; it cannot be {what}"
            assert refused.value.hint == "let it go on with: rendermill retry job"

    def test_a_finished_job_cannot_be_cancelled(self, ledger: Ledger, store: MemoryStore) -> None:
        add_job(ledger, store)
        render(ledger, cut_task(ledger, add_worker(ledger), items=8))

        with pytest.raises(InputError, match="job is finished; it cannot be cancelled"):
            control.cancel(ledger, "job")

    def test_a_job_that_is_not_there_is_said_with_those_that_are(
        self, ledger: Ledger, store: MemoryStore
    ) -> None:
        add_job(ledger, store)

        with pytest.raises(NotFoundError, match="no job 'jab'; the newest are: job"):
            control.pause(ledger, "jab")

    def test_priority_is_changed(self, ledger: Ledger, store: MemoryStore) -> None:
        add_job(ledger, store)

        assert control.set_priority(ledger, "job", 7).priority == 7

    def test_failed_items_are_claimable_again(self, ledger: Ledger, store: MemoryStore) -> None:
        add_job(ledger, store)
        render(ledger, cut_task(ledger, add_worker(ledger), items=8), failed=2)

        job, count = control.retry_failed(ledger, "job")

        assert (job.state, job.failed, count) == (JobState.OPEN, 0, 2)

    def test_a_cancelled_job_goes_on_where_it_was_left(
        self, ledger: Ledger, store: MemoryStore
    ) -> None:
        add_job(ledger, store)
        control.cancel(ledger, "job")

        job, count = control.retry_failed(ledger, "job")

        assert (job.state, count) == (JobState.OPEN, 0)

    def test_retrying_a_job_without_failures_changes_nothing(
        self, ledger: Ledger, store: MemoryStore
    ) -> None:
        before = add_job(ledger, store)

        assert control.retry_failed(ledger, "job") == (before, 0)


class TestWhy:
    def test_without_workers(self, mill: Mill, store: MemoryStore) -> None:
        add_job(mill.ledger, store)

        assert control.why(mill, "job") == [
            "job waits:",
            "no worker is live; start one with: rendermill worker",
        ]

    def test_with_workers_that_are_too_small(
        self, mill: Mill, store: MemoryStore, clock: FakeClock
    ) -> None:
        live_worker(mill.ledger)
        add_job(mill.ledger, store, requirements=make_requirements(cpu_bytes=9 << 30))

        assert control.why(mill, "job") == [
            "job waits:",
            "needs 9.0 GiB of memory (cpu); the largest live worker has 8.0 GiB",
        ]

    def test_while_it_is_rendered(self, mill: Mill, store: MemoryStore, clock: FakeClock) -> None:
        add_job(mill.ledger, store)
        cut_task(mill.ledger, live_worker(mill.ledger), items=4)

        assert control.why(mill, "job") == ["job goes on: 1 worker is at it, 8 items left"]

    def test_while_others_are_before_it(
        self, mill: Mill, store: MemoryStore, clock: FakeClock
    ) -> None:
        live_worker(mill.ledger)
        add_job(mill.ledger, store)

        assert control.why(mill, "job") == [
            "job can be claimed; it waits for its turn among other jobs"
        ]

    def test_while_no_scheduler_wakes_the_workers(
        self, farm: Mill, store: MemoryStore, clock: FakeClock
    ) -> None:
        live_worker(farm.ledger)
        add_job(farm.ledger, store)

        assert control.why(farm, "job")[1].endswith("start one with: rendermill scheduler")

        with farm.ledger.write() as connection:
            leaders.take(connection, LEADER, "one", now=clock.now, seconds=5.0)
        assert "its turn" in control.why(farm, "job")[0]

    def test_of_a_job_that_is_not_open(self, mill: Mill, store: MemoryStore) -> None:
        add_job(mill.ledger, store)
        control.pause(mill.ledger, "job")
        assert control.why(mill, "job") == [
            "job is paused; let it go on with: rendermill resume job"
        ]
        control.cancel(mill.ledger, "job")
        assert control.why(mill, "job") == [
            "job is cancelled; let it go on with: rendermill retry job"
        ]

    def test_of_a_finished_job(self, mill: Mill, store: MemoryStore) -> None:
        add_job(mill.ledger, store)
        add_job(mill.ledger, store, name="bad")
        worker_id = add_worker(mill.ledger)
        render(mill.ledger, cut_task(mill.ledger, worker_id, items=8))
        render(mill.ledger, cut_task(mill.ledger, worker_id, items=8, group_id=2), failed=1)

        assert control.why(mill, "job") == ["job is finished"]
        assert control.why(mill, "bad") == [
            "bad is finished; 1 items failed; render them again with: rendermill retry bad"
        ]


class TestWorkers:
    def test_a_worker_is_drained_and_woken(self, ledger: Ledger) -> None:
        add_worker(ledger)

        for _ in range(2):  # safe to repeat
            drained = control.drain(ledger, "testhost/cpu#1")
            assert (drained.state, drained.note) == (WorkerState.DRAINING, "drained by an operator")
        for _ in range(2):
            woken = control.wake(ledger, "1")
            assert (woken.state, woken.note) == (WorkerState.LIVE, None)

    @pytest.mark.parametrize("step", [control.drain, control.wake])
    def test_one_that_left_cannot_be_steered(self, ledger: Ledger, step: object) -> None:
        worker_id = add_worker(ledger)
        with ledger.write() as connection:
            workers.leave(connection, worker_id, now=2.0)

        assert callable(step)
        with pytest.raises(InputError, match="testhost/cpu#1 is gone") as refused:
            step(ledger, "1")
        assert "rendermill workers" in (refused.value.hint or "")
        assert control.present_workers(ledger) == []


class TestStatus:
    def test_an_empty_home(self, mill: Mill, tmp_path: Path) -> None:
        found = control.status(mill)

        assert found.storage == str(tmp_path)
        assert found.broker.startswith("none")
        assert found.leader == "no scheduler leads"
        assert (found.jobs, found.items_left, found.images_per_second) == ({}, 0, 0.0)

    def test_a_broker_that_is_away_is_said_and_the_rest_is_shown(
        self, farm: Mill, store: MemoryStore, clock: FakeClock
    ) -> None:
        add_job(farm.ledger, store)
        live_worker(farm.ledger)

        found = control.status(farm)

        assert "127.0.0.1:1" in found.broker
        assert "secret" not in str(found)
        assert found.storage == "s3://bucket/prefix"
        assert (found.classes["cpu"].workers, found.classes["cpu"].tickets) == (1, None)

    def test_items_left_are_those_of_jobs_that_go_on(self, mill: Mill, store: MemoryStore) -> None:
        add_job(mill.ledger, store, name="open")
        add_job(mill.ledger, store, name="paused")
        add_job(mill.ledger, store, name="cancelled")
        control.pause(mill.ledger, "paused")
        control.cancel(mill.ledger, "cancelled")

        found = control.status(mill)

        assert found.items_left == 16
        assert found.jobs == {"open": 1, "paused": 1, "cancelled": 1}

    def test_the_leader_is_named_while_its_lease_lasts(self, mill: Mill, clock: FakeClock) -> None:
        with mill.ledger.write() as connection:
            leaders.take(connection, LEADER, "host/7", now=clock.now, seconds=5.0)

        assert control.status(mill).leader == "host/7"
        clock.advance(6.0)
        assert control.status(mill).leader == "no scheduler leads"

    def test_the_speed_is_that_of_the_last_minute(
        self, mill: Mill, store: MemoryStore, clock: FakeClock
    ) -> None:
        add_job(mill.ledger, store)
        worker_id = live_worker(mill.ledger)
        render(
            mill.ledger, cut_task(mill.ledger, worker_id, items=4, now=990.0), now=999.0
        )  # 4 images within the minute
        render(mill.ledger, cut_task(mill.ledger, worker_id, items=4, now=940.0 - 60), now=1000.0)

        half = 4 * 60 / 120  # of the second task's images lie within the minute
        assert control.status(mill).images_per_second == pytest.approx((4 + half) / 60)
        clock.advance(61.0)
        assert control.status(mill).images_per_second == 0.0


class TestEvents:
    def test_they_are_shown_oldest_first_and_followed(
        self, ledger: Ledger, store: MemoryStore
    ) -> None:
        add_job(ledger, store)
        add_job(ledger, store, name="other")
        seen = control.latest_events(ledger, "job", limit=9)
        control.pause(ledger, "job")
        control.pause(ledger, "other")

        later = control.events_after(ledger, "job", after=seen[-1].id, limit=9)

        assert [event.verb for event in seen] == ["submit"]
        assert [event.verb for event in later] == ["pause"]
        assert len(control.latest_events(ledger, None, limit=3)) == 3
