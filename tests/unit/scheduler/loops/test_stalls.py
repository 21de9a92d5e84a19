"""Jobs that cannot go on: found, explained, and said once."""

from __future__ import annotations

import pytest

from scheduler.loops.stalls import STALLED_SECONDS, VERB, reasons, report_stalled
from storage.contract.claims import Progress
from storage.db import events, jobs, steering, tasks, workers
from storage.db.engine import Ledger
from storage.db.events import EventFilter
from storage.objects.memory import MemoryStore
from storage.testing.factories import (
    FakeClock,
    add_job,
    add_worker,
    cut_task,
    make_requirements,
    ref_of,
)

LARGE = make_requirements(cpu_bytes=1 << 40)


@pytest.fixture
def clock(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """The ledger's time; jobs of the factories were submitted at 1."""
    made = FakeClock(1.0 + STALLED_SECONDS + 1.0)
    monkeypatch.setattr(ledger, "now", made)
    return made


def live_worker(ledger: Ledger) -> int:
    worker_id = add_worker(ledger)
    with ledger.write() as connection:
        workers.beat(connection, worker_id, Progress(), now=ledger.now())
    return worker_id


def stalls(ledger: Ledger, job: jobs.Job) -> list[str | None]:
    with ledger.read() as connection:
        wanted = EventFilter(job_id=job.id, verbs=(VERB,))
        return [event.detail for event in events.page(connection, wanted, limit=99)]


def test_a_job_that_fits_no_live_worker_stalls_with_the_reason(
    ledger: Ledger, store: MemoryStore, clock: FakeClock
) -> None:
    live_worker(ledger)
    job = add_job(ledger, store, requirements=LARGE)

    assert report_stalled(ledger) == [job.id]

    (said,) = stalls(ledger, job)
    assert said == "needs 1024.0 GiB of memory (cpu); the largest live worker has 8.0 GiB"


def test_a_stall_is_said_once(ledger: Ledger, store: MemoryStore, clock: FakeClock) -> None:
    job = add_job(ledger, store)

    for _ in range(3):
        report_stalled(ledger)
        clock.advance(STALLED_SECONDS + 1)

    assert len(stalls(ledger, job)) == 1


def test_it_is_said_again_after_the_job_moved(
    ledger: Ledger, store: MemoryStore, clock: FakeClock
) -> None:
    job = add_job(ledger, store)
    report_stalled(ledger)
    clock.advance(10.0)
    worker_id = live_worker(ledger)
    task = cut_task(ledger, worker_id, now=clock.now)
    assert task is not None
    with ledger.write() as connection:
        tasks.hand_back(connection, ref_of(task), now=clock.now)
        workers.leave(connection, worker_id, now=clock.now)

    clock.advance(STALLED_SECONDS - 1)
    assert report_stalled(ledger) == []
    clock.advance(2.0)
    assert report_stalled(ledger) == [job.id]
    assert len(stalls(ledger, job)) == 2


def test_it_is_said_again_after_somebody_steered_the_job(
    ledger: Ledger, store: MemoryStore, clock: FakeClock
) -> None:
    job = add_job(ledger, store)
    report_stalled(ledger)
    with ledger.write() as connection:
        steering.set_priority(connection, job.id, 5, now=clock.now)
    clock.advance(STALLED_SECONDS + 1)

    assert report_stalled(ledger) == [job.id]


def test_a_job_that_was_just_submitted_is_given_time(
    ledger: Ledger, store: MemoryStore, clock: FakeClock
) -> None:
    add_job(ledger, store)
    clock.now = STALLED_SECONDS

    assert report_stalled(ledger) == []


def test_a_job_under_lease_does_not_stall(
    ledger: Ledger, store: MemoryStore, clock: FakeClock
) -> None:
    worker_id = live_worker(ledger)
    add_job(ledger, store, requirements=LARGE)
    assert cut_task(ledger, worker_id) is not None

    assert report_stalled(ledger) == []


def test_a_job_that_some_worker_could_take_does_not_stall(
    ledger: Ledger, store: MemoryStore, clock: FakeClock
) -> None:
    live_worker(ledger)
    add_job(ledger, store)

    assert report_stalled(ledger) == []


@pytest.mark.parametrize("step", [steering.pause, steering.cancel])
def test_a_job_that_is_not_open_does_not_stall(
    ledger: Ledger, store: MemoryStore, clock: FakeClock, step: object
) -> None:
    job = add_job(ledger, store)
    with ledger.write() as connection:
        assert callable(step)
        step(connection, job.id, now=1.0)

    assert report_stalled(ledger) == []


def test_without_live_workers_that_is_the_reason(
    ledger: Ledger, store: MemoryStore, clock: FakeClock
) -> None:
    job = add_job(ledger, store)

    with ledger.read() as connection:
        said = reasons(connection, job.id, now=clock.now)

    assert said == ["no worker is live; start one with: rendermill worker"]


def test_a_job_with_nothing_left_to_claim_has_no_reasons(
    ledger: Ledger, store: MemoryStore, clock: FakeClock
) -> None:
    job = add_job(ledger, store, [])

    with ledger.read() as connection:
        assert reasons(connection, job.id, now=clock.now) == []
