"""A worker's tools around the fake renderer, for tests that need no process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from storage.contract.claims import ClaimedTask
from storage.db.engine import Ledger
from storage.objects.memory import MemoryStore
from storage.testing.factories import add_worker, make_capability
from workers.claiming import Claimer
from workers.engine.fake import FakeRenderer
from workers.execute import Tools
from workers.heartbeat import Heartbeat
from workers.items import ItemReader
from workers.stopping import Stop


@pytest.fixture
def stop() -> Stop:
    """Nobody has asked to stop yet."""
    return Stop()


@pytest.fixture
def worker_id(ledger: Ledger) -> int:
    """A registered worker."""
    return add_worker(ledger, now=ledger.now())


@pytest.fixture
def tools(ledger: Ledger, store: MemoryStore, worker_id: int, stop: Stop) -> Tools:
    """Tools of that worker; its heartbeat does not beat by itself."""
    return Tools(
        ledger=ledger,
        store=store,
        reader=ItemReader(ledger, store),
        renderer=FakeRenderer(),
        heartbeat=Heartbeat(ledger, worker_id, stop),
        worker_id=worker_id,
        device_kind="cpu/1",
    )


@pytest.fixture
def claim(ledger: Ledger, worker_id: int) -> Callable[[], ClaimedTask]:
    """Claims a task for that worker."""

    def claimed() -> ClaimedTask:
        (task,) = Claimer(ledger, worker_id, make_capability(), job_id=None).claim(None)
        return task

    return claimed
