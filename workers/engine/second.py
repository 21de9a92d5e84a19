"""The second stage of a group: its pictures made larger by another model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec
from PIL import Image

from storage.contract.items import UPSCALE, BatchShape, GroupSpec, Item, Upscaler
from workers.engine.batching import Batch
from workers.engine.families.base import Inputs
from workers.engine.ports import Facts, Picture

if TYPE_CHECKING:
    from workers.engine.ports import PictureSource


def first_spec(spec: GroupSpec) -> GroupSpec:
    """The group without its second stage."""
    return msgspec.structs.replace(spec, upscaler=None)


def second_spec(spec: GroupSpec, upscaler: Upscaler, scheduler: str) -> GroupSpec:
    """The second stage as a group of its own; `scheduler` is the upscaling model's own.

    Its size is that of the pictures it makes, which come one at a time: one of them takes the
    memory of many smaller ones.
    """
    return GroupSpec(
        kind=UPSCALE,
        model=upscaler.model,
        revision=upscaler.revision,
        width=spec.width * upscaler.factor,
        height=spec.height * upscaler.factor,
        num_inference_steps=upscaler.num_inference_steps,
        guidance_scale=upscaler.guidance_scale,
        scheduler=scheduler,
        dtype=spec.dtype,
        batch=BatchShape(encode=spec.batch.encode, denoise=1, decode=1),
        noise_level=upscaler.noise_level,
        prompt_syntax=spec.prompt_syntax,
    )


@dataclass(frozen=True, slots=True)
class MadePictures:
    """What the first stage made: the second stage's input."""

    images: Mapping[str | None, Any]  #: Pillow images by the name they have in the item

    def inputs_of(self, item: Item, spec: GroupSpec) -> Inputs:
        """The item's picture of the first stage."""
        return Inputs(image=self.images[item.image])

    def prefetch(self, items: Sequence[Item]) -> None:
        """They are here."""


def second_batches(
    batches: Sequence[Batch], made: Sequence[Picture]
) -> tuple[list[Batch], MadePictures]:
    """One batch for each picture that was made."""
    items = {number: batch.slots[place] for batch in batches for place, number in batch.wanted}
    single = []
    images: dict[str | None, Any] = {}
    for picture in made:
        name = f"picture of item {picture.item}"
        item = msgspec.structs.replace(items[picture.item], image=name)
        pixels: Any = picture.pixels
        images[name] = Image.fromarray(pixels)
        single.append(Batch(slots=(item,), wanted=((0, picture.item),)))
    return single, MadePictures(images)


def merged_facts(first: Facts, second: Facts) -> Facts:
    """What is to be said of a picture that went through both stages."""
    weights = hashlib.sha256(f"{first.weights} {second.weights}".encode()).hexdigest()[:16]
    return replace(
        first,
        weights=weights,
        mode=second.mode,
        steps_down=(*first.steps_down, *(f"upscaler: {step}" for step in second.steps_down)),
        lossy=(*first.lossy, *second.lossy),
        peak_bytes=max(first.peak_bytes, second.peak_bytes),
        image_seconds=second.image_seconds,  # the stages share a clock
        phase_seconds=second.phase_seconds,
    )


def merged_picture(small: Picture, large: Picture) -> Picture:
    """The larger picture, with what is known of the smaller one."""
    return replace(
        large,
        truncated_tokens=small.truncated_tokens,
        retried_in=large.retried_in or small.retried_in,
        retried_phase=large.retried_phase if large.retried_in else small.retried_phase,
    )


if TYPE_CHECKING:
    _source: PictureSource = MadePictures({})
