"""A renderer without torch: pictures are a function of the item, and nothing else.

It stands behind the same port as the real one, so that claims, leases, kills and the catalog
can be tested at full speed on any machine. A prompt can order faults: ``!nan``, ``!constant``,
``!error``, ``!crash`` and ``!sleep SECONDS``.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from storage.contract.capability import ModeNeed
from storage.contract.items import GroupSpec, Item
from storage.contract.outcomes import Reason
from workers.engine.batching import Batch
from workers.engine.ports import Facts, Picture, Pixels, Watch

if TYPE_CHECKING:
    from workers.engine.ports import Renderer


class FakeRenderer:
    """Draws noise seeded by prompt and seed; `seconds` is how long an image takes."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self._loaded: str | None = None

    @property
    def loaded_model(self) -> str | None:
        """The model named last."""
        return self._loaded

    def render(
        self, spec: GroupSpec, rung: ModeNeed, batches: Sequence[Batch], watch: Watch
    ) -> Iterator[tuple[Facts, list[Picture]]]:
        """One batch after the other."""
        self._loaded = spec.model
        facts = Facts(dtype="float32", device="fake", weights="fake", versions={"fake": "1"})
        for number, batch in enumerate(batches, 1):
            watch.tell("denoise", number, spec.num_inference_steps)
            time.sleep(self._seconds * batch.size)
            yield facts, [_picture(spec, batch.slots[place], item) for place, item in batch.wanted]
            if watch.stop_after_batch():
                return


def _picture(spec: GroupSpec, item: Item, number: int) -> Picture:
    order, _, argument = item.prompt.partition(" ")
    match order:
        case "!nan":
            return Picture(item=number, fault=Reason.NAN, detail="as ordered")
        case "!constant":
            return Picture(item=number, fault=Reason.CONSTANT, detail="as ordered")
        case "!error":
            raise RuntimeError(f"as ordered by item {number}")
        case "!crash":
            os.abort()
        case "!sleep":
            time.sleep(float(argument))
    return Picture(item=number, pixels=pixels_of(spec, item))


def pixels_of(spec: GroupSpec, item: Item) -> Pixels:
    """The picture of an item, for comparing with what was stored."""
    text = f"{spec.model}\0{item.prompt}\0{item.negative_prompt}\0{item.seed}"
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
    noise = np.random.default_rng(seed)
    return noise.integers(0, 256, (spec.height, spec.width, 3), dtype=np.uint8)


if TYPE_CHECKING:
    _renderer: Renderer = FakeRenderer()
