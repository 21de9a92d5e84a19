"""A task rendered through the whole engine, told and stopped by nobody."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from storage.contract.capability import ModeNeed
from storage.contract.items import GroupSpec, Item
from workers.engine.batching import plan
from workers.engine.diffusion import DiffusionRenderer
from workers.engine.ports import Facts, Picture, Watch


class Rendered:
    """What a task came to."""

    def __init__(self) -> None:
        self.pictures: dict[int, Picture] = {}
        self.facts: list[Facts] = []
        self.ran_out: list[ModeNeed] = []
        self.told: list[tuple[str, int, int]] = []

    @property
    def steps_down(self) -> tuple[str, ...]:
        """Of the last pictures."""
        return self.facts[-1].steps_down

    def pixels(self) -> list[Any]:
        """Of all pictures, none of which may be faulty."""
        assert not [one.detail for one in self.pictures.values() if one.fault]
        return [np.asarray(self.pictures[number].pixels) for number in sorted(self.pictures)]


def rendered(
    renderer: DiffusionRenderer,
    spec: GroupSpec,
    need: ModeNeed,
    items: Sequence[Item],
    *,
    first_item: int = 0,
    stop: Callable[[], bool] = lambda: False,
) -> Rendered:
    """Render to the end, unless `stop` says otherwise after a batch."""
    result = Rendered()
    batches = plan(items, first_item=first_item, group_first_item=0, batch_size=spec.batch.denoise)
    watch = Watch(
        tell=lambda *one: result.told.append(one),
        stop_after_batch=stop,
        ran_out=result.ran_out.append,
    )
    for facts, pictures in renderer.render(spec, need, batches, watch):
        result.facts.append(facts)
        for picture in pictures:
            assert picture.item not in result.pictures
            result.pictures[picture.item] = picture
    return result
