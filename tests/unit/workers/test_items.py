from __future__ import annotations

import msgspec
import pytest

from storage.contract.claims import ClaimedTask
from storage.contract.errors import ObjectMissing
from storage.contract.shards import pack
from storage.db import tables
from storage.db.engine import Ledger
from storage.db.jobs import NewShard
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


def sharded(ledger: Ledger, store: CountingStore) -> list[ClaimedTask]:
    """Three shards of eight items, and the tasks that take four of them each."""
    items = [make_item(number) for number in range(24)]
    add_job(ledger, store, items)
    encode = msgspec.msgpack.encode
    with ledger.write() as connection:
        connection.exec_driver_sql("DELETE FROM shards")
        for first in (0, 8, 16):
            key = f"jobs/split/items-{first}.msgpack"
            store.put(key, pack([encode(item) for item in items[first : first + 8]], 8))
            one = NewShard(first_item=first, item_count=8, object_key=key)
            connection.execute(
                tables.shards.insert(), [{"job_id": 1, **msgspec.structs.asdict(one)}]
            )
    worker = add_worker(ledger)
    tasks = [cut_task(ledger, worker, items=4) for _ in range(6)]
    return [task for task in tasks if task is not None]


def test_the_next_shard_is_there_before_it_is_needed(
    ledger: Ledger, counting: CountingStore
) -> None:
    tasks = sharded(ledger, counting)
    reader = ItemReader(ledger, counting)
    reader.items_of(tasks[0])
    fetched = reader.look_ahead(tasks[0])
    assert fetched is not None
    fetched.result(timeout=10)
    reads = counting.reads
    assert [item.row for item in reader.items_of(tasks[2])] == [8, 9, 10, 11]
    assert counting.reads == reads
    assert reader.look_ahead(tasks[1]) is None, "it is there already"
    reader.close()


def test_a_shard_that_cannot_be_fetched_ahead_is_missed_only_when_it_is_needed(
    ledger: Ledger, counting: CountingStore
) -> None:
    tasks = sharded(ledger, counting)
    counting.delete(["jobs/split/items-8.msgpack"])
    reader = ItemReader(ledger, counting)
    reader.items_of(tasks[1])
    fetched = reader.look_ahead(tasks[1])
    assert fetched is not None
    fetched.result(timeout=10)
    assert [item.row for item in reader.items_of(tasks[0])] == [0, 1, 2, 3]
    with pytest.raises(ObjectMissing):
        reader.items_of(tasks[2])
    reader.close()


def test_after_the_last_shard_there_is_nothing_to_fetch(
    ledger: Ledger, counting: CountingStore
) -> None:
    tasks = sharded(ledger, counting)
    reader = ItemReader(ledger, counting)
    reader.items_of(tasks[5])
    reads = counting.reads
    fetched = reader.look_ahead(tasks[5])
    assert fetched is not None
    fetched.result(timeout=10)
    assert counting.reads == reads
    reader.close()
