"""Laying items into fixed batches. Pure.

Item i of a group always lies in batch ``i // size``, at place ``i % size``, and a batch is
computed at its full shape even if only one of its pictures is wanted. So the pixels do not
depend on how tasks were cut. Places nobody wants are filled with a wanted item of the same
batch: what stands there does not change its neighbours (measured, bit for bit).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from storage.contract.items import Item, batches


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """One denoising batch: `slots` at full shape, `wanted` places to keep."""

    slots: tuple[Item, ...]
    wanted: tuple[tuple[int, int], ...]  #: (place, item number)

    @property
    def size(self) -> int:
        """Rows computed."""
        return len(self.slots)


def plan(
    items: Sequence[Item], *, first_item: int, group_first_item: int, batch_size: int
) -> list[Batch]:
    """Batches for `items`, the items numbered from `first_item` on."""
    planned = []
    stop_item = first_item + len(items)
    for start, stop in batches(first_item, stop_item, batch_size, origin=group_first_item):
        offset = (start - group_first_item) % batch_size
        filler = items[start - first_item]
        slots = [filler] * batch_size
        wanted = []
        for number in range(start, stop):
            place = offset + number - start
            slots[place] = items[number - first_item]
            wanted.append((place, number))
        planned.append(Batch(slots=tuple(slots), wanted=tuple(wanted)))
    return planned
