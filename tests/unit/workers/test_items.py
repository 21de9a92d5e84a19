from __future__ import annotations

import msgspec
import pytest

from storage.contract.claims import ClaimedTask
from storage.contract.errors import ObjectMissing
from storage.db.engine import Ledger
from storage.objects.memory import MemoryStore
from storage.testing.factories import add_job, add_worker, cut_task, make_item
from workers.items import ItemReader


class CountingStore(MemoryStore):
    """Counts what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def get(self, key: str) -> bytes:
        self.reads += 1
        return super().get(key)


@pytest.fixture
def counting() -> CountingStore:
    return CountingStore()


@pytest.fixture
def task(ledger: Ledger, counting: CountingStore) -> ClaimedTask:
    """The second half of twenty items."""
    add_job(ledger, counting, [make_item(number) for number in range(20)])
    worker = add_worker(ledger)
    assert cut_task(ledger, worker, items=10) is not None
    second = cut_task(ledger, worker, items=10)
    assert second is not None
    return second


def test_a_task_gets_its_items_in_order(
    ledger: Ledger, counting: CountingStore, task: ClaimedTask
) -> None:
    found = ItemReader(ledger, counting).items_of(task)
    assert [item.row for item in found] == list(range(task.first_item, task.stop_item))


def test_tasks_of_one_shard_read_it_once(
    ledger: Ledger, counting: CountingStore, task: ClaimedTask
) -> None:
    reader = ItemReader(ledger, counting)
    halves = [
        msgspec.structs.replace(task, first_item=first, stop_item=first + 2)
        for first in range(0, 20, 2)
    ]
    read = [item.row for half in halves for item in reader.items_of(half)]
    assert (read, counting.reads) == (list(range(20)), 1)


def test_shards_of_jobs_gone_by_are_let_go(ledger: Ledger, counting: CountingStore) -> None:
    reader = ItemReader(ledger, counting)
    worker = add_worker(ledger)
    first: ClaimedTask | None = None
    for number in range(4):
        add_job(ledger, counting, [make_item(n) for n in range(2)], name=f"job-{number}")
        task = cut_task(ledger, worker, items=2, group_id=number + 1)
        assert task is not None
        first = first or task
        reader.items_of(task)
    assert first is not None
    counting.delete([key for key in counting.objects if key.startswith("jobs/job-0/")])
    with pytest.raises(ObjectMissing):
        reader.items_of(first)
