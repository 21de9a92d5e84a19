"""From what happens to a job to what its web hook is told, and when it is tried again."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from scheduler.loops.announcing import LOOK_BACK_SECONDS, announce
from scheduler.loops.stalls import VERB as STALL
from scheduler.loops.webhook_post import Fault, HookSettings
from scheduler.loops.webhook_rules import ATTEMPTS
from scheduler.loops.webhooks import WebHooks
from storage.contract.errors import LedgerUnavailable
from storage.contract.states import Entity
from storage.db import deliveries, jobs, tables
from storage.db.deliveries import Delivery
from storage.db.engine import Ledger
from storage.db.transitions import advance, record
from storage.objects.memory import MemoryStore
from storage.testing.factories import FakeClock, add_job
from tests.services.told_server import Answer, told_server

URL = "https://example.org/hook"


@pytest.fixture
def clock(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """The ledger's time."""
    made = FakeClock(1_000.0)
    monkeypatch.setattr(ledger, "now", made)
    return made


AddJob = Callable[..., jobs.Job]


@pytest.fixture
def add(ledger: Ledger, store: MemoryStore, clock: FakeClock) -> AddJob:
    """Adds jobs with a web hook."""

    def added(name: str = "shapes", url: str | None = URL) -> jobs.Job:
        job = add_job(ledger, store, name=name)
        with ledger.write() as connection:
            connection.execute(
                sa.update(tables.jobs).where(tables.jobs.c.id == job.id).values(webhook=url)
            )
        return job

    return added


class Receiver:
    """Notes what it is sent; `faults` are its answers, then it takes everything."""

    def __init__(self, *faults: Fault) -> None:
        self.faults = list(faults)
        self.got: list[Delivery] = []
        self.called = threading.Event()

    def __call__(self, delivery: Delivery) -> Fault | None:
        self.got.append(delivery)
        self.called.set()
        return self.faults.pop(0) if self.faults else None


def hooks(ledger: Ledger, receiver: Receiver, **options: Any) -> WebHooks:
    return WebHooks(ledger, HookSettings(), send=receiver, chance=lambda: 0.5, **options)


def finish(ledger: Ledger, job: jobs.Job, at: float) -> None:
    with ledger.write() as connection:
        advance(connection, Entity.JOB, job.id, "finish", now=at, finished_at=at)


def stall(ledger: Ledger, job: jobs.Job, at: float, why: str = "no worker is large enough") -> None:
    with ledger.write() as connection:
        record(connection, Entity.JOB, job.id, STALL, now=at, detail=why)


def written(ledger: Ledger, job: jobs.Job) -> list[Delivery]:
    with ledger.read() as connection:
        return deliveries.of_job(connection, job.id)


def test_a_finished_job_is_told_with_its_counts(
    ledger: Ledger, add: AddJob, clock: FakeClock
) -> None:
    job, receiver = add(), Receiver()
    finish(ledger, job, clock.now)

    assert hooks(ledger, receiver).send_due() == 1

    (got,) = receiver.got
    assert (got.event, got.url) == ("job.done", URL)
    body = json.loads(got.body)
    assert (body["event"], body["job"], body["job_id"]) == ("job.done", "shapes", job.id)
    assert (body["state"], body["items"], body["done"], body["failed"]) == ("finished", 8, 0, 0)
    assert (body["at"], body["finished_at"]) == (clock.now, clock.now)
    assert written(ledger, job)[0].delivered_at == clock.now


def test_a_stalled_job_is_told_with_the_reason(
    ledger: Ledger, add: AddJob, clock: FakeClock
) -> None:
    job, receiver = add(), Receiver()
    stall(ledger, job, clock.now, "needs 9.1 GiB")

    assert hooks(ledger, receiver).send_due() == 1

    body = json.loads(receiver.got[0].body)
    assert (body["event"], body["state"], body["reason"]) == (
        "job.stalled",
        "open",
        "needs 9.1 GiB",
    )


def test_what_was_told_is_not_told_again_but_what_happens_again_is(
    ledger: Ledger, add: AddJob, clock: FakeClock
) -> None:
    job, receiver = add(), Receiver()
    sender = hooks(ledger, receiver)
    stall(ledger, job, clock.now)
    finish(ledger, job, clock.now)
    assert (sender.send_due(), sender.send_due()) == (2, 0)

    with ledger.write() as connection:
        advance(connection, Entity.JOB, job.id, "retry", now=clock.now, finished_at=None)
    assert sender.send_due() == 0
    stall(ledger, job, clock.now, "another reason")
    finish(ledger, job, clock.now)

    assert (sender.send_due(), sender.send_due()) == (2, 0)
    assert sorted(got.event for got in receiver.got) == ["job.done"] * 2 + ["job.stalled"] * 2
    assert json.loads(receiver.got[-1].body)["reason"] in (None, "another reason")


def test_a_job_without_a_web_hook_and_one_under_way_are_not_told(
    ledger: Ledger, add: AddJob, clock: FakeClock
) -> None:
    finish(ledger, add("silent", None), clock.now)
    add("open")
    receiver = Receiver()
    assert hooks(ledger, receiver).send_due() == 0
    assert receiver.got == []


def test_what_happened_while_no_scheduler_ran_is_told_but_not_after_a_week(
    ledger: Ledger, add: AddJob, clock: FakeClock
) -> None:
    recent, old = add("recent"), add("old")
    finish(ledger, old, clock.now)
    finish(ledger, recent, clock.now + 3600)
    clock.advance(LOOK_BACK_SECONDS + 1)
    assert announce(ledger) == 1
    assert [one.event for one in written(ledger, recent)] == ["job.done"]
    assert written(ledger, old) == []


def test_two_schedulers_that_announce_at_once_tell_once(
    ledger: Ledger, add: AddJob, clock: FakeClock
) -> None:
    job = add()
    finish(ledger, job, clock.now)
    together = threading.Barrier(2)

    def tell() -> None:
        together.wait()
        announce(ledger)

    threads = [threading.Thread(target=tell) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written(ledger, job)) == 1


def test_a_receiver_that_fails_is_tried_again_later_and_later_until_a_day_has_passed(
    ledger: Ledger, add: AddJob, clock: FakeClock
) -> None:
    job = add()
    receiver = Receiver(*[Fault(text="answered 503")] * 100)
    sender = hooks(ledger, receiver)
    started = clock.now
    finish(ledger, job, clock.now)

    while (state := written(ledger, job)[0] if receiver.got else None) is None or state.next_at:
        if state is not None and state.next_at is not None:
            clock.now = state.next_at - 1
            assert sender.send_due() == 0
            clock.now = state.next_at
        tries = len(receiver.got)
        sender.send_due()
        assert len(receiver.got) == tries + 1

    assert (state.attempts, state.error, state.delivered_at) == (ATTEMPTS, "answered 503", None)
    assert 20 * 3600 < clock.now - started < 26 * 3600
    clock.advance(7 * 24 * 3600)
    assert sender.send_due() == 0
    assert len(receiver.got) == ATTEMPTS


def test_a_receiver_that_is_gone_for_good_is_not_tried_again(
    ledger: Ledger, add: AddJob, clock: FakeClock
) -> None:
    job, receiver = add(), Receiver(Fault(text="answered 410", final=True))
    finish(ledger, job, clock.now)
    sender = hooks(ledger, receiver)
    sender.send_due()
    clock.advance(10_000)
    sender.send_due()
    assert len(receiver.got) == 1
    assert written(ledger, job)[0].error == "answered 410"


def test_one_receiver_that_fails_does_not_hold_up_another(
    ledger: Ledger, add: AddJob, clock: FakeClock
) -> None:
    first, second = add("first"), add("second")
    for job in (first, second):
        finish(ledger, job, clock.now)

    def send(delivery: Delivery) -> Fault | None:
        return Fault(text="no answer") if delivery.job_id == first.id else None

    WebHooks(ledger, HookSettings(), send=send, chance=lambda: 0.5).send_due()
    assert written(ledger, first)[0].next_at == clock.now + 10
    assert written(ledger, second)[0].delivered_at == clock.now


@pytest.fixture
def running() -> Iterator[Callable[[WebHooks], WebHooks]]:
    """Starts senders and ends them."""
    started: list[WebHooks] = []

    def start(sender: WebHooks) -> WebHooks:
        started.append(sender)
        sender.start()
        return sender

    yield start
    for sender in started:
        sender.end()


def test_the_thread_sends_when_it_is_woken(
    ledger: Ledger, add: AddJob, clock: FakeClock, running: Callable[[WebHooks], WebHooks]
) -> None:
    receiver = Receiver()
    sender = running(hooks(ledger, receiver))
    finish(ledger, add(), clock.now)
    sender.wake()
    assert receiver.called.wait(30)


def test_a_ledger_that_is_away_for_a_while_does_not_end_the_thread(
    ledger: Ledger,
    add: AddJob,
    clock: FakeClock,
    running: Callable[[WebHooks], WebHooks],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finish(ledger, add(), clock.now)
    asked, back = threading.Event(), threading.Event()
    original = ledger.read

    def read() -> Any:
        if back.is_set():
            return original()
        asked.set()
        raise LedgerUnavailable("it is away")

    monkeypatch.setattr(ledger, "read", read)
    receiver = Receiver()
    sender = running(hooks(ledger, receiver))
    sender.wake()
    assert asked.wait(30)
    back.set()
    sender.wake()
    assert receiver.called.wait(30)


def test_who_does_not_lead_sends_nothing(
    ledger: Ledger, add: AddJob, clock: FakeClock, running: Callable[[WebHooks], WebHooks]
) -> None:
    asked, leads = threading.Event(), threading.Event()

    def may_send() -> bool:
        asked.set()
        return leads.is_set()

    receiver = Receiver()
    finish(ledger, add(), clock.now)
    sender = running(hooks(ledger, receiver, may_send=may_send))
    sender.wake()
    assert asked.wait(30)
    assert receiver.got == []
    leads.set()
    sender.wake()
    assert receiver.called.wait(30)


def test_ending_waits_for_what_is_under_way_and_starts_nothing_new(
    ledger: Ledger, add: AddJob, clock: FakeClock
) -> None:
    for number in range(20):
        finish(ledger, add(f"job-{number}"), clock.now)
    begun, go_on = threading.Event(), threading.Event()
    sent: list[int] = []

    def send(delivery: Delivery) -> None:
        begun.set()
        go_on.wait(30)
        sent.append(delivery.id)

    sender = WebHooks(ledger, HookSettings(), send=send)
    sender.start()
    sender.wake()
    assert begun.wait(30)
    ending = threading.Thread(target=sender.end)
    ending.start()
    while not sender.ending:
        ending.join(0.01)
    go_on.set()
    ending.join(30)
    assert not ending.is_alive()
    assert 1 <= len(sent) < 20


def test_a_hook_goes_through_from_the_event_to_the_receiver(
    ledger: Ledger, add: AddJob, clock: FakeClock
) -> None:
    with told_server() as server:
        server.answers = [Answer(status=500), Answer(status=204)]
        job = add(url=f"http://127.0.0.1:{server.server_port}/hook")
        finish(ledger, job, clock.now)
        sender = WebHooks(ledger, HookSettings(secret="s"), chance=lambda: 0.5)
        assert sender.send_due() == 0
        clock.advance(10)
        assert sender.send_due() == 1
    assert [one.headers["X-Rendermill-Delivery"] for one in server.asked] == ["1", "1"]
    assert written(ledger, job)[0].attempts == 2
