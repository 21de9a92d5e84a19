"""The scheduler's loop: who leads, what a turn does, and what is said of troubles."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest
import structlog

from scheduler.loops import run
from scheduler.loops.run import HEARD_SECONDS, LEADER, LEASE_SECONDS, STALLS_SECONDS, Loop
from storage.contract.claims import Progress
from storage.contract.errors import BrokerUnavailable, LedgerUnavailable
from storage.contract.states import WorkerState
from storage.db import leaders, workers
from storage.db.engine import Ledger
from storage.db.workers import Worker
from storage.objects.memory import MemoryStore
from storage.testing.factories import FakeClock, add_job, add_worker

START = 1_000_000.0


class FakeOffice:
    """A broker in memory."""

    def __init__(self) -> None:
        self.queued: dict[str, int] = {}
        self.away: Exception | None = None

    def waiting(self) -> dict[str, int]:
        if self.away is not None:
            raise self.away
        return dict(self.queued)

    def publish(self, counts: Mapping[str, int]) -> int:
        for label, count in counts.items():
            self.queued[label] = self.queued.get(label, 0) + count
        return sum(counts.values())


def nobody_knows(_worker: Worker) -> None:
    """As of a worker on another machine."""


def dead(_worker: Worker) -> bool:
    return False


@pytest.fixture
def clock(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """The ledger's time."""
    made = FakeClock(START)
    monkeypatch.setattr(ledger, "now", made)
    return made


@pytest.fixture
def office() -> FakeOffice:
    return FakeOffice()


@pytest.fixture
def loop(ledger: Ledger, office: FakeOffice, clock: FakeClock) -> Loop:
    return Loop(ledger=ledger, office=office, holder="one", is_alive=nobody_knows)


@pytest.fixture
def other(ledger: Ledger, office: FakeOffice, clock: FakeClock) -> Loop:
    return Loop(ledger=ledger, office=office, holder="other", is_alive=nobody_knows)


@pytest.fixture
def worker_id(ledger: Ledger, clock: FakeClock) -> int:
    """A worker that was heard from just now."""
    made = add_worker(ledger)
    beat(ledger, made)
    return made


def beat(ledger: Ledger, worker_id: int) -> None:
    with ledger.write() as connection:
        workers.beat(connection, worker_id, Progress(), now=ledger.now())


def leader(ledger: Ledger) -> str | None:
    with ledger.read() as connection:
        found = leaders.holder(connection, LEADER)
    return found.holder if found and found.expires_at > ledger.now() else None


def state_of(ledger: Ledger, worker_id: int) -> str:
    with ledger.read() as connection:
        return workers.find(connection, str(worker_id)).state


def test_of_two_schedulers_one_leads(loop: Loop, other: Loop, ledger: Ledger) -> None:
    loop.turn()
    other.turn()

    assert (loop.leads, other.leads) == (True, False)
    assert leader(ledger) == "one"


def test_the_leader_stays_it_while_it_takes_its_turns(
    loop: Loop, other: Loop, clock: FakeClock
) -> None:
    for _ in range(10):
        loop.turn()
        clock.advance(LEASE_SECONDS - 1)
        other.turn()

    assert (loop.leads, other.leads) == (True, False)


def test_another_takes_over_when_the_leader_falls_silent_and_the_old_one_stands_by(
    loop: Loop, other: Loop, clock: FakeClock, ledger: Ledger
) -> None:
    loop.turn()
    clock.advance(LEASE_SECONDS + 0.1)

    other.turn()
    loop.turn()

    assert (loop.leads, other.leads) == (False, True)
    assert leader(ledger) == "other"


def test_who_is_told_to_stop_lets_another_lead_at_once(
    loop: Loop, other: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "TURN_SECONDS", 0.0)
    stop = threading.Event()
    ran = threading.Thread(target=loop.run, args=(stop,))
    loop.turn()
    ran.start()
    stop.set()
    ran.join(30)

    other.turn()

    assert other.leads


def test_only_the_leader_issues_tickets(
    loop: Loop, other: Loop, ledger: Ledger, store: MemoryStore, worker_id: int, office: FakeOffice
) -> None:
    add_job(ledger, store)

    loop.turn()
    other.turn()

    assert loop.tickets == office.queued["cpu"] > 0
    assert other.tickets == 0


def test_tickets_that_were_lost_are_issued_again_with_the_next_turn(
    loop: Loop, ledger: Ledger, store: MemoryStore, worker_id: int, office: FakeOffice
) -> None:
    add_job(ledger, store)
    loop.turn()
    issued = dict(office.queued)
    office.queued.clear()

    loop.turn()
    assert office.queued == issued

    loop.turn()
    assert office.queued == issued, "what waits is not doubled"


def test_without_a_broker_a_turn_goes_without_tickets(
    ledger: Ledger, store: MemoryStore, clock: FakeClock, worker_id: int
) -> None:
    add_job(ledger, store)
    loop = Loop(ledger=ledger, office=None, holder="one", is_alive=nobody_knows)

    loop.turn()

    assert loop.leads
    assert loop.tickets == 0


def test_a_trouble_is_said_once_and_its_end_too(loop: Loop, office: FakeOffice) -> None:
    office.away = BrokerUnavailable("the broker is away", hint="start it")
    _with_open_group(loop)

    with structlog.testing.capture_logs() as said:
        for _ in range(3):
            loop.turn()
        office.away = None
        loop.turn()

    troubles = [line for line in said if line.get("step") == "tickets"]
    assert [line["action"] for line in troubles] == ["trouble", "trouble_over"]
    assert troubles[0]["event"] == "the broker is away"
    assert troubles[0]["hint"] == "start it"


def test_another_trouble_of_the_same_step_is_said_again(loop: Loop, office: FakeOffice) -> None:
    _with_open_group(loop)

    with structlog.testing.capture_logs() as said:
        for message in ("away", "away", "refused"):
            office.away = BrokerUnavailable(message)
            loop.turn()

    assert [line["event"] for line in said if line.get("step") == "tickets"] == ["away", "refused"]


def test_a_fault_of_one_step_ends_neither_the_loop_nor_the_other_steps(
    loop: Loop, office: FakeOffice, worker_id: int, ledger: Ledger, clock: FakeClock
) -> None:
    office.away = ZeroDivisionError("a fault of ours")
    _with_open_group(loop)
    loop.is_alive = dead

    with structlog.testing.capture_logs() as said:
        loop.turn()

    assert [line["log_level"] for line in said if line.get("step") == "tickets"] == ["error"]
    clock.advance(HEARD_SECONDS)
    loop.turn()
    assert state_of(ledger, worker_id) == WorkerState.GONE, "the rescue went on"


def test_a_ledger_that_is_away_costs_the_lead_until_it_is_back(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop.turn()

    def away(*_: Any, **__: Any) -> None:
        raise LedgerUnavailable("away")

    with monkeypatch.context() as gone:
        gone.setattr(loop.ledger, "write", away)
        loop.turn()
        assert not loop.leads

    loop.turn()
    assert loop.leads


def test_a_worker_heard_from_just_now_is_not_dead_because_it_is_not_found_here(
    loop: Loop, ledger: Ledger, worker_id: int, clock: FakeClock
) -> None:
    loop.is_alive = dead

    loop.turn()
    assert state_of(ledger, worker_id) == WorkerState.LIVE

    clock.advance(HEARD_SECONDS)
    loop.turn()
    assert state_of(ledger, worker_id) == WorkerState.GONE


def test_stalls_are_looked_for_once_in_a_while(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    time = FakeClock()
    looks: list[float] = []
    monkeypatch.setattr("scheduler.loops.run.time.monotonic", time)
    monkeypatch.setattr(run, "report_stalled", lambda _ledger: looks.append(time.now))

    for _ in range(61):
        loop.turn()
        time.advance(1.0)

    assert [round(after - looks[0]) for after in looks] == [0, STALLS_SECONDS, 2 * STALLS_SECONDS]


def _with_open_group(loop: Loop) -> None:
    add_job(loop.ledger, MemoryStore())
    beat(loop.ledger, add_worker(loop.ledger, pid=77))


def test_what_is_kept_is_looked_after_by_the_leader_alone(ledger: Ledger) -> None:
    kept: list[str] = []

    def standing(name: str) -> Loop:
        return Loop(
            ledger=ledger,
            office=None,
            holder=name,
            is_alive=nobody_knows,
            keep=lambda: kept.append(name),
        )

    first, second = standing("first"), standing("second")
    for loop in (first, second, first, second):
        loop.turn()
    assert kept == ["first"]
