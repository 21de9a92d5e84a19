"""Reading the items of a task from the shards that hold them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from storage.contract.claims import ClaimedTask
from storage.contract.items import Item
from storage.contract.shards import unpack
from storage.db import shards
from storage.db.engine import Ledger
from storage.ports import ObjectStore

KEPT: Final = 2
"""Shards kept. Tasks of small groups come one after the other from the same shard, and a task
may begin in one shard and end in the next."""

Place = tuple[int, str]  # first item and object key of a shard


@dataclass(slots=True)
class ItemReader:
    """Reads items; the shards read last are kept, since they never change."""

    ledger: Ledger
    store: ObjectStore
    _kept: OrderedDict[tuple[int, int], list[Item]] = field(default_factory=OrderedDict)

    def items_of(self, task: ClaimedTask) -> list[Item]:
        """The task's items, in order."""
        items: list[Item] = []
        for first, held in self._covering(task):
            items += held[max(0, task.first_item - first) : task.stop_item - first]
        return items

    def _covering(self, task: ClaimedTask) -> list[tuple[int, list[Item]]]:
        for (job_id, first), held in self._kept.items():
            within = first <= task.first_item and task.stop_item <= first + len(held)
            if job_id == task.job_id and within:
                return [(first, held)]
        with self.ledger.read() as connection:
            places = shards.covering(connection, task.job_id, task.first_item, task.stop_item)
        return [(place[0], self._read(task.job_id, place)) for place in places]

    def _read(self, job_id: int, place: Place) -> list[Item]:
        first, key = place
        kept = self._kept.get((job_id, first))
        if kept is None:
            kept = unpack(self.store.get(key), key=key)
        self._kept[job_id, first] = kept
        self._kept.move_to_end((job_id, first))
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return kept
