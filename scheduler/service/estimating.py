"""What a model needs in each mode, and what a card of some size would do with it."""

from __future__ import annotations

from typing import Final

import msgspec

from scheduler import estimate
from scheduler.service.machine import CUDA_CONTEXT
from storage.contract.capability import Capability, Mode, ModeNeed
from storage.contract.classes import GIB, VRAM_CLASSES
from storage.contract.errors import InputError
from storage.contract.items import BatchShape, GroupSpec
from storage.contract.models import ModelCard

SPEEDS: Final = {
    Mode.RESIDENT: "full",
    Mode.LEAN: "full, text encoders loaded each task",
    Mode.PHASED: "nearly full, all loaded each task",
    Mode.OFFLOAD: "a half to a tenth, weights streamed",
    Mode.CPU: "a CPU's",
    Mode.CPU_PHASED: "a CPU's, all loaded each task",
}

LENGTH: Final = 1000
"""Images of the group that is estimated, where no batch is named."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a model; None: as it does itself."""

    width: int | None = None
    height: int | None = None
    batch: int | None = None
    dtype: str = "auto"
    kind: str | None = None


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """One way to render it."""

    mode: Mode
    batch: int  #: images denoised at once
    tiled: bool
    memory_bytes: int
    card: str | None  #: the smallest class that has it; None: none, or a CPU's
    fits: bool | None  #: the memory asked about; None: not asked, or a CPU's
    speed: str


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What a model needs."""

    model: str
    revision: str | None
    pipeline: str
    family: str
    plain: bool  #: no record covers it: only diffusers' own call renders it
    licence: str | None
    parameters: dict[str, int]
    kind: str
    width: int
    height: int
    dtype: str
    disk_bytes: int
    vram_bytes: int | None  #: that was asked about
    takes: Rung | None  #: what a card of that would do
    rungs: tuple[Rung, ...]


def estimate_model(card: ModelCard, wish: Wish, *, vram_bytes: int | None = None) -> Estimate:
    """What `wish` needs of the model, and what a card of `vram_bytes` in all would do."""
    spec = _spec(card, wish)
    needs = estimate.requirements(card, spec)
    room = None if vram_bytes is None else max(1, vram_bytes - CUDA_CONTEXT)
    rungs = tuple(_rung(need, spec, room) for need in needs.modes)
    fit = None
    if room is not None:
        device = Capability(device="", kind="", name="", vram_bytes=room, ram_bytes=0)
        need = needs.fit(device)
        fit = None if need is None else rungs[needs.modes.index(need)]
    return Estimate(
        model=card.model,
        revision=card.revision,
        pipeline=card.pipeline,
        family=card.family.title,
        plain=card.is_plain,
        licence=card.licence,
        parameters=card.parameters,
        kind=spec.kind,
        width=spec.width,
        height=spec.height,
        dtype=spec.dtype,
        disk_bytes=needs.disk_bytes,
        vram_bytes=vram_bytes,
        takes=fit,
        rungs=rungs,
    )


def _spec(card: ModelCard, wish: Wish) -> GroupSpec:
    family = card.family
    kind = wish.kind or next(iter(family.pipelines))
    if kind not in family.pipelines:
        there = ", ".join(family.pipelines)
        raise InputError(f"{family.title} models do not do {kind}; they do: {there}")
    width, height = wish.width or card.width, wish.height or card.height
    for name, side in (("width", width), ("height", height)):
        if side % family.size_multiple or side < family.min_size:
            raise InputError(
                f"{name} {side}: must be divisible by {family.size_multiple}"
                f" and at least {family.min_size} for {family.title} models"
            )
    shape = estimate.batch_shape(card, width, height, LENGTH, on_cpu=False)
    if wish.batch is not None:
        decode = min(shape.decode, wish.batch)
        shape = BatchShape(encode=shape.encode, denoise=wish.batch, decode=decode)
    return GroupSpec(
        kind=kind,
        model=card.model,
        revision=card.revision,
        width=width,
        height=height,
        num_inference_steps=card.num_inference_steps,
        guidance_scale=card.guidance_scale,
        scheduler=card.scheduler,
        dtype=wish.dtype,
        batch=shape,
    )


def _rung(need: ModeNeed, spec: GroupSpec, room: int | None) -> Rung:
    on_cpu = need.mode.on_cpu
    return Rung(
        mode=need.mode,
        batch=need.batch or spec.batch.denoise,
        tiled=need.tiled,
        memory_bytes=need.memory_bytes,
        card=None if on_cpu else smallest_card(need.memory_bytes),
        fits=None if on_cpu or room is None else need.memory_bytes <= room,
        speed=SPEEDS[need.mode],
    )


def smallest_card(memory_bytes: int) -> str | None:
    """The smallest VRAM class whose cards have that much beside CUDA's own; None: none has."""
    for label, gib in VRAM_CLASSES.items():
        if gib and gib * GIB - CUDA_CONTEXT >= memory_bytes:
            return label
    return None
