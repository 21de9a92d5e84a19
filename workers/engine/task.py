"""What a task has made so far: everything that outlives a phase, in host memory.

A step down the memory ladder or a change of mode begins again from here, so nothing that is
done is done twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from storage.contract.items import Item
from workers.engine.batching import Batch
from workers.engine.families.base import Row, Tensor
from workers.engine.ports import Picture

Text = tuple[str, bool]
"""A text, and whether it is a negative prompt."""


@dataclass(kw_only=True)
class Task:
    """The items of a task and what became of them."""

    batches: Sequence[Batch]  #: as the group has them
    parts: dict[Text, dict[str, Row]] = field(default_factory=dict)  #: by text encoder
    rows: dict[Text, Row] = field(default_factory=dict)
    beyond: dict[str, int] = field(default_factory=dict)  #: tokens not read, by prompt
    conditions: dict[int, Row] = field(default_factory=dict)
    noise: dict[int, Any] = field(default_factory=dict)  #: generator's state after conditioning
    latents: dict[int, Tensor] = field(default_factory=dict)
    pictures: dict[int, Picture] = field(default_factory=dict)
    given: set[int] = field(default_factory=set)  #: items whose pictures were handed out
    again: dict[int, Picture] = field(default_factory=dict)  #: to be rendered again, and why
    recode: dict[int, Picture] = field(default_factory=dict)  #: to be decoded again, and why

    @cached_property
    def items(self) -> dict[int, Item]:
        """All wanted items by number."""
        return {
            number: batch.slots[place] for batch in self.batches for place, number in batch.wanted
        }

    @property
    def settled(self) -> set[int]:
        """Items that came to something, or must be done again in another way."""
        return {*self.pictures, *self.again, *self.recode}

    def take(self) -> list[Picture]:
        """Pictures that were not handed out yet; after this they are, and leave memory."""
        fresh = [p for n, p in self.pictures.items() if n not in self.given]
        for picture in fresh:
            self.given.add(picture.item)
            self.pictures[picture.item] = replace(picture, pixels=None)
        return fresh

    def open_batches(self, size: int) -> Iterator[Batch]:
        """What is still to do, in batches of `size`; at the group's own size, its own batches."""
        settled = self.settled
        for batch in self.batches:
            if all(number in settled for _, number in batch.wanted):
                continue
            if size >= batch.size:
                yield batch
                continue
            rest = [one for one in batch.wanted if one[1] not in settled]
            for start in range(0, len(rest), size):
                yield _smaller(batch, rest[start : start + size], size)


def numbers(batch: Batch) -> list[int]:
    """The item number of each slot; what fills up a batch is its first wanted item."""
    by_place = dict(batch.wanted)
    filler = batch.wanted[0][1]
    return [by_place.get(place, filler) for place in range(batch.size)]


def _smaller(batch: Batch, wanted: Sequence[tuple[int, int]], size: int) -> Batch:
    slots = [batch.slots[place] for place, _ in wanted]
    slots += [slots[0]] * (size - len(slots))
    places = tuple((place, number) for place, (_, number) in enumerate(wanted))
    return Batch(slots=tuple(slots), wanted=places)
