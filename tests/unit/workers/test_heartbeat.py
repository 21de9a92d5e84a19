from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from storage.contract.claims import ClaimedTask, Progress
from storage.contract.errors import Interrupted, LeaseLost
from storage.contract.states import Entity
from storage.db import tasks, workers
from storage.db.engine import Ledger
from storage.db.transitions import advance
from storage.objects.memory import MemoryStore
from storage.testing.factories import FakeClock, add_job, make_failure, ref_of
from workers.heartbeat import Heartbeat
from workers.stopping import Stop

Claim = Callable[[], ClaimedTask]


@pytest.fixture
def clock(ledger: Ledger) -> FakeClock:
    clock = FakeClock()
    ledger.now = clock  # type: ignore[method-assign]
    return clock


@pytest.fixture
def heartbeat(ledger: Ledger, worker_id: int, stop: Stop) -> Heartbeat:
    return Heartbeat(ledger, worker_id, stop)


def lease_end(ledger: Ledger) -> float:
    with ledger.read() as connection:
        return float(connection.exec_driver_sql("SELECT lease_expires_at FROM tasks").scalar_one())


def test_a_beat_says_that_the_worker_lives_and_what_it_does(
    ledger: Ledger, heartbeat: Heartbeat, clock: FakeClock
) -> None:
    heartbeat.tell(Progress(phase="denoise", batch=3, batches=9))
    clock.advance(5)

    heartbeat.beat()

    with ledger.read() as connection:
        (worker,) = workers.present(connection)
    assert worker.seen_at == clock.now
    assert (worker.progress.phase, worker.progress.batch) == ("denoise", 3)


def test_a_lease_is_renewed_by_progress_and_by_nothing_else(
    ledger: Ledger, store: MemoryStore, heartbeat: Heartbeat, claim: Claim, clock: FakeClock
) -> None:
    add_job(ledger, store)
    task = claim()
    heartbeat.take(task)
    heartbeat.tell(Progress(phase="denoise"))
    clock.advance(10)
    heartbeat.beat()
    assert lease_end(ledger) == clock.now + task.lease_seconds

    renewed = lease_end(ledger)
    clock.advance(10)
    heartbeat.beat()

    assert lease_end(ledger) == renewed


def test_a_lease_is_not_renewed_more_often_than_it_takes_to_keep_it(
    ledger: Ledger, store: MemoryStore, heartbeat: Heartbeat, claim: Claim, clock: FakeClock
) -> None:
    add_job(ledger, store)
    task = claim()
    heartbeat.take(task)
    ends: list[float] = []
    for _ in range(int(task.lease_seconds)):
        clock.advance(1)
        heartbeat.tell(Progress(phase="denoise"))
        heartbeat.beat()
        ends.append(lease_end(ledger))
        assert ends[-1] > clock.now + task.lease_seconds / 2
    assert len(set(ends)) <= 5


def test_the_renderer_learns_of_a_lost_lease_at_its_next_step(
    ledger: Ledger, store: MemoryStore, heartbeat: Heartbeat, claim: Claim
) -> None:
    add_job(ledger, store)
    task = claim()
    heartbeat.take(task)
    with ledger.write() as connection:
        tasks.lapse(connection, ref_of(task), now=2.0, failure=make_failure())
    heartbeat.tell(Progress(phase="denoise"))

    heartbeat.beat()

    assert heartbeat.stop_after_batch
    with pytest.raises(LeaseLost):
        heartbeat.tell(Progress(phase="denoise"))


@pytest.mark.parametrize("ending", ["lapse", "pause"])
def test_a_beat_that_hears_late_of_a_task_leaves_the_next_one_alone(
    ledger: Ledger, store: MemoryStore, heartbeat: Heartbeat, claim: Claim, ending: str
) -> None:
    job = add_job(ledger, store)
    first = claim()
    add_job(ledger, store, name="next")
    second = claim()
    heartbeat.take(first)
    heartbeat.tell(Progress(phase="denoise"))

    def now() -> float:
        """The beat has begun; the task ends and another is taken before it gets on."""
        with ledger.write() as connection:
            if ending == "pause":
                advance(connection, Entity.JOB, job.id, "pause", now=1.0)
            else:
                tasks.lapse(connection, ref_of(first), now=2.0, failure=make_failure())
        heartbeat.take(second)
        return 3.0

    ledger.now = now  # type: ignore[method-assign]
    heartbeat.beat()

    assert not heartbeat.stop_after_batch
    heartbeat.tell(Progress(phase="denoise"))


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_a_paused_or_cancelled_job_stops_its_task_after_the_batch(
    ledger: Ledger, store: MemoryStore, heartbeat: Heartbeat, claim: Claim, verb: str
) -> None:
    job = add_job(ledger, store)
    heartbeat.take(claim())
    assert not heartbeat.stop_after_batch
    with ledger.write() as connection:
        advance(connection, Entity.JOB, job.id, verb, now=1.0)

    heartbeat.beat()

    assert heartbeat.stop_after_batch
    heartbeat.tell(Progress(phase="denoise"))  # the batch itself goes on


def test_a_stop_out_of_grace_interrupts_the_renderer(heartbeat: Heartbeat, stop: Stop) -> None:
    stop.drain(60, "drain")
    assert heartbeat.stop_after_batch
    heartbeat.tell(Progress(phase="denoise"))

    stop.drain(0, "now")

    with pytest.raises(Interrupted, match="now"):
        heartbeat.tell(Progress(phase="denoise"))


def test_a_new_task_forgets_what_befell_the_last_one(
    ledger: Ledger, store: MemoryStore, heartbeat: Heartbeat, claim: Claim
) -> None:
    add_job(ledger, store)
    task = claim()
    heartbeat.take(task)
    with ledger.write() as connection:
        tasks.lapse(connection, ref_of(task), now=2.0, failure=make_failure())
    heartbeat.tell(Progress(phase="denoise"))
    heartbeat.beat()
    heartbeat.release()

    heartbeat.take(claim())

    heartbeat.tell(Progress(phase="denoise"))
    assert not heartbeat.stop_after_batch


def test_the_thread_beats_until_it_is_ended(ledger: Ledger, heartbeat: Heartbeat) -> None:
    heartbeat.start()
    heartbeat.end()

    assert not any(thread.name == "heartbeat" for thread in threading.enumerate())


def test_a_drained_worker_rests_until_it_is_woken(
    ledger: Ledger, heartbeat: Heartbeat, worker_id: int
) -> None:
    heartbeat.beat()
    assert not heartbeat.resting
    with ledger.write() as connection:
        workers.drain(connection, worker_id, now=1.0, note="drained by an operator")
    heartbeat.beat()
    assert heartbeat.resting
    with ledger.write() as connection:
        workers.wake(connection, worker_id, now=2.0)
    heartbeat.beat()
    assert not heartbeat.resting


@pytest.fixture
def hour(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the machine's clock."""

    def set_hour(hour: int) -> None:
        local = time.struct_time((2026, 1, 1, hour, 0, 0, 3, 1, 0))
        monkeypatch.setattr("workers.heartbeat.time.localtime", lambda: local)

    return set_hour


def state_of(ledger: Ledger) -> tuple[str, str | None]:
    with ledger.read() as connection:
        (worker,) = workers.present(connection)
    return worker.state, worker.note


def test_a_worker_keeps_its_hours(
    ledger: Ledger, worker_id: int, stop: Stop, hour: Callable[[int], None]
) -> None:
    sleeper = Heartbeat(ledger, worker_id, stop, sleep="22:00-06:00")
    hour(23)
    sleeper.beat()
    assert (sleeper.resting, state_of(ledger)) == (True, ("draining", "asleep until 06:00"))
    hour(7)
    sleeper.beat()
    assert (sleeper.resting, state_of(ledger)) == (False, ("live", None))


def test_the_morning_does_not_wake_what_an_operator_drained(
    ledger: Ledger, worker_id: int, stop: Stop, hour: Callable[[int], None]
) -> None:
    sleeper = Heartbeat(ledger, worker_id, stop, sleep="22:00-06:00")
    with ledger.write() as connection:
        workers.drain(connection, worker_id, now=1.0, note="drained by an operator")
    hour(7)
    sleeper.beat()
    assert sleeper.resting
