from __future__ import annotations

import socket

import pytest

from scheduler.loops.run import LEADER
from scheduler.service.health import HEARD_SECONDS, is_scheduler_well, is_worker_well
from storage.contract.claims import Progress
from storage.db import leaders, workers
from storage.db.engine import Ledger
from storage.testing.factories import FakeClock, add_worker, make_capability


@pytest.fixture
def clock(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """The ledger's time."""
    made = FakeClock(1000.0)
    monkeypatch.setattr(ledger, "now", made)
    return made


def test_a_scheduler_is_well_while_some_scheduler_leads(ledger: Ledger, clock: FakeClock) -> None:
    assert is_scheduler_well(ledger) == (False, "no scheduler has ever led")
    with ledger.write() as connection:
        leaders.take(connection, LEADER, "host/7", now=clock.now, seconds=5.0)
    assert is_scheduler_well(ledger) == (True, "host/7 leads")

    clock.advance(5.0 + HEARD_SECONDS + 1.0)

    assert is_scheduler_well(ledger) == (False, "host/7 led last; its lease ran out 31 s ago")


def test_workers_are_well_while_one_of_this_machine_is_heard_from(
    ledger: Ledger, clock: FakeClock
) -> None:
    host = socket.gethostname()
    add_worker(ledger, make_capability(host="elsewhere"))
    assert is_worker_well(ledger) == (False, f"no worker of {host} was heard from in 30 s")
    one, two = (add_worker(ledger, make_capability(host=host), pid=pid) for pid in (2, 3))
    with ledger.write() as connection:
        workers.beat(connection, one, Progress(), now=clock.now)
        workers.beat(connection, two, Progress(), now=clock.now)
        workers.drain(connection, two, now=clock.now)
    assert is_worker_well(ledger) == (True, f"2 worker(s) on {host}, 1 of them at rest")

    clock.advance(HEARD_SECONDS + 1.0)

    assert not is_worker_well(ledger)[0]
