"""Models that no family's record covers: diffusers' own pipeline call, batch by batch.

Everything lies on the device, texts are encoded again for every batch, and faults are not mended
in another precision. Slower, and said so in the log and in the facts.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
import torch

from storage.contract.capability import Mode, ModeNeed
from storage.contract.errors import ModelUnusable, OutOfMemory
from storage.contract.items import GroupSpec
from storage.contract.outcomes import Reason
from workers.engine.assembly import assemble
from workers.engine.batching import Batch
from workers.engine.clock import LOAD, Clock
from workers.engine.components import first_line, load_component
from workers.engine.devices import Device
from workers.engine.faults import device_lost, is_out_of_memory
from workers.engine.models import Model
from workers.engine.pixels import fault_of, to_bytes
from workers.engine.pool import Part, Pool
from workers.engine.ports import Picture, Watch
from workers.engine.progress import telling

log = structlog.get_logger()


@dataclass(kw_only=True)
class PlainCourse:
    """A task of a model that is known by its pipeline class only."""

    device: Device
    pool: Pool
    model: Model
    spec: GroupSpec
    dtype: str
    watch: Watch
    clock: Clock

    @property
    def mode(self) -> Mode:
        """Everything at once."""
        return Mode.RESIDENT if self.device.has_own_memory else Mode.CPU

    def pictures(self, batches: Sequence[Batch]) -> Iterator[list[Picture]]:
        """Pictures batch by batch."""
        log.info(
            "no record covers this model: the plain pipeline call renders it, more slowly",
            action="plain_pipeline",
            model=self.spec.model,
            pipeline=self.model.card.pipeline,
        )
        with self.clock.timing(LOAD):
            pipeline = self._guarded(self._loaded)
        for number, batch in enumerate(batches, 1):
            yield self._guarded(partial(self._rendered, pipeline, batch, number))
            if self.watch.stop_after_batch():
                return

    def _guarded(self, step: Callable[[], Any]) -> Any:
        full = None
        try:
            return step()
        except (RuntimeError, MemoryError) as error:
            if lost := device_lost(error):
                raise lost from error
            if not is_out_of_memory(error):
                raise
            full = first_line(error)
        self.pool.rebuild()
        self.device.empty()
        self.watch.ran_out(ModeNeed(mode=self.mode, memory_bytes=self.device.room_bytes()))
        raise OutOfMemory(
            f"{full}; a model without a record is rendered in one piece, and cannot be cut",
            hint="a device with more memory can do it",
        )

    def _loaded(self) -> Any:
        parts: dict[str, Part] = {}
        for name in self.model.weighted:
            source = self.model.source(name, self.spec, self.dtype)

            def load(source: Any = source) -> Any:
                with telling(lambda: self.watch.tell(LOAD, 0, 0)):
                    return load_component(source)

            parts[name] = self.pool.get((source, source.stamp), name, load, source.stored_bytes)
        self.pool.only(parts.values())
        self.pool.place(list(parts.values()))
        modules = {name: part.module for name, part in parts.items()}
        try:
            return assemble(
                self.model.card.pipeline, {**self.model.weightless, **modules}, self.model.settings
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise ModelUnusable(f"{self.spec.model}: {first_line(error)}") from error

    def _rendered(self, pipeline: Any, batch: Batch, number: int) -> list[Picture]:
        self.watch.tell("denoise", number, 0)
        with self.clock.timing("denoise"), torch.no_grad(), self.device.computing():
            return [
                _picture(item, images[place])
                for part in _alike(batch)
                for images in [pipeline(**self._arguments(pipeline, part, number)).images]
                for place, item in part.wanted
            ]

    def _arguments(self, pipeline: Any, batch: Batch, number: int) -> dict[str, Any]:
        """Of what a group says, that which this pipeline takes."""
        spec = self.spec

        def after_step(_pipeline: Any, step: int, _timestep: Any, kwargs: dict[str, Any]) -> Any:
            self.watch.tell("denoise", number, step + 1)
            return kwargs

        wanted: Mapping[str, Any] = {
            "prompt": [item.prompt for item in batch.slots],
            "negative_prompt": [item.negative_prompt for item in batch.slots],
            "width": spec.width,
            "height": spec.height,
            "num_inference_steps": spec.num_inference_steps,
            "guidance_scale": spec.guidance_scale,
            "generator": [torch.Generator("cpu").manual_seed(i.seed) for i in batch.slots],
            "output_type": "pt",
            "callback_on_step_end": after_step,
        }
        takes = inspect.signature(type(pipeline).__call__).parameters
        if not any(item.negative_prompt for item in batch.slots):
            wanted = {name: value for name, value in wanted.items() if name != "negative_prompt"}
        return {name: value for name, value in wanted.items() if name in takes}


def _alike(batch: Batch) -> Iterator[Batch]:
    """The batch, or what of it has a negative prompt and what has none, each at full shape.

    To some pipelines no negative prompt is not the same as an empty one, and a call has one or
    the other for all its rows: a picture must not depend on its neighbours' having one.
    """
    for has in (False, True):
        wanted = [at for at in batch.wanted if bool(batch.slots[at[0]].negative_prompt) is has]
        if wanted:
            filler = batch.slots[wanted[0][0]]
            slots = [s if bool(s.negative_prompt) is has else filler for s in batch.slots]
            yield Batch(slots=tuple(slots), wanted=tuple(wanted))


def _picture(item: int, decoded: Any) -> Picture:
    """From values of shape (3, height, width) in 0 to 1."""
    if not bool(decoded.isfinite().all()):
        return Picture(item=item, fault=Reason.NAN, detail="pixels are not finite")
    pixels = to_bytes(decoded.permute(1, 2, 0))
    flat = fault_of(pixels)
    if flat is not None:
        return Picture(item=item, fault=Reason.CONSTANT, detail=flat)
    return Picture(item=item, pixels=pixels)
