from __future__ import annotations

from collections.abc import Mapping

import pytest

from scheduler.loops.tickets import issue_tickets
from storage.contract.claims import Progress
from storage.db import steering, workers
from storage.db.engine import Ledger
from storage.objects.memory import MemoryStore
from storage.testing.factories import add_job, add_worker, make_capability, make_requirements


class FakeOffice:
    """A broker in memory that counts how often it is asked."""

    def __init__(self, **queued: int) -> None:
        self.queued = queued
        self.asked = 0

    def waiting(self) -> dict[str, int]:
        self.asked += 1
        return dict(self.queued)

    def publish(self, counts: Mapping[str, int]) -> int:
        for label, count in counts.items():
            self.queued[label] = self.queued.get(label, 0) + count
        return sum(counts.values())


@pytest.fixture(autouse=True)
def _still(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger's time is when the factories' workers were heard from."""
    monkeypatch.setattr(ledger, "now", lambda: 2.0)


def test_work_and_a_worker_for_it_give_tickets_of_its_class(
    ledger: Ledger, store: MemoryStore
) -> None:
    add_job(ledger, store)
    add_worker(ledger)
    office = FakeOffice()

    assert issue_tickets(ledger, office) == office.queued["cpu"] == 2


def test_tickets_go_to_the_class_of_the_queue_a_worker_listens_to(
    ledger: Ledger, store: MemoryStore
) -> None:
    """A card of 12 GiB that others use too has 9 free, and still listens to its own queue."""
    needs = make_requirements(resident=1 << 30)
    add_job(ledger, store, requirements=needs)
    add_worker(ledger, make_capability(device="cuda:0", vram_bytes=9 << 30, queue_class="gpu12"))
    office = FakeOffice()

    issue_tickets(ledger, office)

    assert set(office.queued) == {"gpu12"}


def test_what_waits_already_is_not_issued_again(ledger: Ledger, store: MemoryStore) -> None:
    add_job(ledger, store)
    add_worker(ledger)

    assert issue_tickets(ledger, FakeOffice(cpu=2)) == 0


def test_without_open_work_or_workers_the_broker_is_not_even_asked(
    ledger: Ledger, store: MemoryStore
) -> None:
    office = FakeOffice()
    add_worker(ledger)
    assert issue_tickets(ledger, office) == 0

    job = add_job(ledger, store)
    with ledger.write() as connection:
        steering.pause(connection, job.id, now=2.0)
    assert issue_tickets(ledger, office) == 0
    assert office.asked == 0


def test_a_worker_that_rests_is_not_woken(ledger: Ledger, store: MemoryStore) -> None:
    add_job(ledger, store)
    worker_id = add_worker(ledger)
    with ledger.write() as connection:
        workers.beat(connection, worker_id, Progress(), now=2.0)
        workers.drain(connection, worker_id, now=2.0)

    assert issue_tickets(ledger, FakeOffice()) == 0
