"""Bytes a group needs on a device, by mode, phase and rung of the memory ladder. Pure.

A task has four phases. Each needs the weights of its components and room for what they compute;
the modes differ in which weights lie on the device at once. With V the bytes, W weights, A
activations, over the phases p (each text encoder is one):

    resident    V = W of all components + max over p of A(p)
    lean        V = max(each text encoder, W of all the rest + max of A)
    phased      V = max over p of (W(p) + A(p))
    offload     V = max over p of (W streamed(p) + A(p))
    cpu         as resident, cpu-phased as phased, in host memory

A comes from the constants of the family's record (bytes per pixel and image, in 16 bit).
A margin of a tenth covers fragmentation and what kernels allocate inside. Of a card's memory the
CUDA context is not in it: what a worker says it has is what is free beside that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from scheduler.estimate.companions import UPSCALER, Companions
from scheduler.estimate.parts import ENCODE, Part, parts
from scheduler.estimate.seconds import tflop
from storage.contract.capability import Mode, ModeNeed, Requirements
from storage.contract.classes import GIB
from storage.contract.items import UPSCALE, BatchShape, GroupSpec, Upscaler
from storage.contract.models import ModelCard

MARGIN: Final = 1.1
GPU_WORKSPACE: Final = GIB // 8  # of cuBLAS and cuDNN
CPU_PROCESS: Final = GIB // 2  # the interpreter with torch and diffusers loaded: 0.49 measured

_SMALLER: Final = 0.98  # a rung that saves less than this is none


def requirements(
    card: ModelCard, spec: GroupSpec, companions: Companions | None = None
) -> Requirements:
    """What the group needs at each rung, best rung first.

    A rung at a lesser shape is listed only if it needs less than the one before it.
    """
    companions = companions or Companions()
    phased = _ladder(card, spec, companions, Mode.PHASED)
    streamed, *lesser = _ladder(card, spec, companions, Mode.OFFLOAD)
    least = phased[-1].memory_bytes * _SMALLER
    gpu = [
        *_whole(card, spec, companions, Mode.RESIDENT, Mode.LEAN),
        *phased,
        streamed,
        # Streaming is slow: a lesser shape of it must need less than anything before.
        *(need for need in lesser if need.memory_bytes < least),
    ]
    if card.is_plain:  # rendered by the pipeline's own call, which knows no phases
        gpu = list(_whole(card, spec, companions, Mode.RESIDENT))
    cpu = list(_whole(card, spec, companions, Mode.CPU))
    if not card.is_plain:
        cpu += _ladder(card, spec, companions, Mode.CPU_PHASED)
    upscaler = companions.upscaler
    return Requirements(
        modes=(*gpu, *cpu),
        disk_bytes=card.weight_bytes + (upscaler.weight_bytes if upscaler else 0),
        tflop_per_image=tflop(card, spec) + _second_tflop(spec, companions),
    )


def mode_bytes(
    card: ModelCard,
    spec: GroupSpec,
    mode: Mode,
    *,
    companions: Companions | None = None,
    batch: int = 0,
    tiled: bool = False,
) -> int:
    """Bytes the group needs in a mode, margin and overhead included; 0: the group's own batch."""
    companions = companions or Companions()
    needed = _of_mode(parts(card, spec, mode, companions, batch=batch, tiled=tiled), mode)
    if spec.upscaler is not None:
        stage, second = second_stage(spec, spec.upscaler, companions)
        # One stage after the other, and only one of them on the device.
        later = parts(stage, second, mode, Companions(), tiled=tiled)
        needed = max(needed, _of_mode(later, mode))
    return int(needed * MARGIN) + (CPU_PROCESS if mode.on_cpu else GPU_WORKSPACE)


def second_stage(
    spec: GroupSpec, upscaler: Upscaler, companions: Companions
) -> tuple[ModelCard, GroupSpec]:
    """The upscaler's card, and what it is asked for: one picture at a time, at its final size."""
    card = companions.upscaler or UPSCALER_CARD
    return card, GroupSpec(
        kind=UPSCALE,
        model=upscaler.model,
        width=spec.width * upscaler.factor,
        height=spec.height * upscaler.factor,
        num_inference_steps=upscaler.num_inference_steps,
        guidance_scale=upscaler.guidance_scale,
        scheduler=card.scheduler,
        dtype=spec.dtype,
        batch=BatchShape(encode=spec.batch.encode, denoise=1, decode=1),
    )


UPSCALER_CARD: Final = ModelCard(
    model="stabilityai/stable-diffusion-x4-upscaler",
    revision=None,
    path=None,
    pipeline="StableDiffusionUpscalePipeline",
    width=512,
    height=512,
    num_inference_steps=75,
    guidance_scale=9.0,
    scheduler="DDIMScheduler",
    parameters=UPSCALER,
    weight_bytes=2 * sum(UPSCALER.values()),
    token_limit=77,
    latent_scale=4,
)
"""What is known of the usual second stage without looking at it."""


def _of_mode(phases: Sequence[Part], mode: Mode) -> float:
    """Bytes of the phases in a mode, without margin and overhead."""
    if mode in (Mode.RESIDENT, Mode.CPU):
        return _together(phases)
    if mode is Mode.LEAN:
        rest = [part for part in phases if part.phase != ENCODE]
        return max([part.total for part in phases if part.phase == ENCODE] + [_together(rest)])
    if mode is Mode.OFFLOAD:
        return max(part.streamed + part.activations for part in phases)
    return max(part.total for part in phases)


def _together(phases: Sequence[Part]) -> float:
    """All weights, a component that several phases share once, and the largest activations."""
    weights: dict[str, float] = {}
    for part in phases:
        for name, size in part.weights.items():
            weights[name] = max(size, weights.get(name, 0.0))
    return sum(weights.values()) + max(part.activations for part in phases)


def _whole(
    card: ModelCard, spec: GroupSpec, companions: Companions, *modes: Mode
) -> Iterator[ModeNeed]:
    for mode in modes:
        needed = mode_bytes(card, spec, mode, companions=companions)
        yield ModeNeed(mode=mode, memory_bytes=needed)


def _ladder(card: ModelCard, spec: GroupSpec, companions: Companions, mode: Mode) -> list[ModeNeed]:
    """The mode at the group's shape, then at lesser ones, as far as they need less."""
    rungs: list[ModeNeed] = []
    batch = spec.batch.denoise
    while batch:
        for tiled in (False, True):
            own = 0 if batch == spec.batch.denoise else batch
            needed = mode_bytes(card, spec, mode, companions=companions, batch=own, tiled=tiled)
            if not rungs or needed < rungs[-1].memory_bytes * _SMALLER:
                rungs.append(ModeNeed(mode=mode, memory_bytes=needed, batch=own, tiled=tiled))
        batch //= 2
    return rungs


def _second_tflop(spec: GroupSpec, companions: Companions) -> float:
    if spec.upscaler is None:
        return 0.0
    return tflop(*second_stage(spec, spec.upscaler, companions))
