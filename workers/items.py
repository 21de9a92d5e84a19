"""Reading the items of a task from the shards that hold them."""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from storage.contract.claims import ClaimedTask
from storage.contract.errors import RendermillError
from storage.contract.items import Item
from storage.contract.shards import unpack
from storage.db import shards
from storage.db.engine import Ledger
from storage.ports import ObjectStore

KEPT: Final = 3
"""Shards kept. Tasks of small groups come one after the other from the same shard, a task may
begin in one shard and end in the next, and the one after that is fetched ahead."""

AHEAD: Final = 8
"""The next shard is fetched once fewer than so many tasks like this one are left in a shard:
other workers claim in between."""

Place = tuple[int, str]  # first item and object key of a shard


@dataclass(slots=True)
class ItemReader:
    """Reads items; the shards read last are kept, since they never change."""

    ledger: Ledger
    store: ObjectStore
    _kept: OrderedDict[tuple[int, int], list[Item]] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)
    _ahead: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="shard")
    )

    def items_of(self, task: ClaimedTask) -> list[Item]:
        """The task's items, in order."""
        items: list[Item] = []
        for first, held in self._covering(task):
            items += held[max(0, task.first_item - first) : task.stop_item - first]
        return items

    def look_ahead(self, task: ClaimedTask) -> Future[None] | None:
        """Begin to fetch the shard after the one `task` ends in, if it will be wanted soon."""
        with self._lock:
            ends = [
                first + len(held)
                for (job_id, first), held in self._kept.items()
                if job_id == task.job_id and first < task.stop_item <= first + len(held)
            ]
            known = any((task.job_id, end) in self._kept for end in ends)
        if not ends or known or ends[0] - task.stop_item >= AHEAD * task.items:
            return None
        return self._ahead.submit(self._fetch_after, task.job_id, ends[0])

    def close(self) -> None:
        """Let go of the thread."""
        self._ahead.shutdown(cancel_futures=True)

    def _fetch_after(self, job_id: int, item: int) -> None:
        with suppress(RendermillError):  # who needs it fetches it again, and says what is wrong
            with self.ledger.read() as connection:
                places = shards.covering(connection, job_id, item, item + 1)
            for place in places:
                self._read(job_id, place)

    def _covering(self, task: ClaimedTask) -> list[tuple[int, list[Item]]]:
        with self._lock:
            kept = list(self._kept.items())
        for (job_id, first), held in kept:
            within = first <= task.first_item and task.stop_item <= first + len(held)
            if job_id == task.job_id and within:
                return [(first, held)]
        with self.ledger.read() as connection:
            places = shards.covering(connection, task.job_id, task.first_item, task.stop_item)
        return [(place[0], self._read(task.job_id, place)) for place in places]

    def _read(self, job_id: int, place: Place) -> list[Item]:
        first, key = place
        with self._lock:
            kept = self._kept.get((job_id, first))
        if kept is None:
            kept = unpack(self.store.get(key), key=key)
        with self._lock:
            self._kept[job_id, first] = kept
            self._kept.move_to_end((job_id, first))
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return kept
