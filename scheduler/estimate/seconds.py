"""How long an image takes and how large its file is, before anything was measured. Pure.

Arithmetic over an assumed speed, to the nearest power of two at best.
"""

from __future__ import annotations

from typing import Final

from scheduler.estimate.pixels import computed_pixels
from storage.contract.capability import Device, Requirements
from storage.contract.items import TEXT_TO_IMAGE, GroupSpec
from storage.contract.models import ModelCard

PNG_BYTES_PER_PIXEL: Final = 1.7
"""Photo-like content at compression level 1; flat pictures take far less."""

ASSUMED_TFLOPS: Final = {"cpu": 0.05, "gpu": 20.0}
"""Arithmetic speed assumed per CPU thread and per GPU until something was measured."""

COMPILE_SECONDS: Final = 1800.0
"""Estimated seconds on one card from which compiling is worth its time."""

_UNET_SHARE: Final = 4
_PATCH: Final = 2  # latents an edge of a transformer's token has, where the VAE halves 3 times
_DEEP_SCALE: Final = 16  # a VAE that shrinks more leaves nothing to gather into patches


def tflop(card: ModelCard, spec: GroupSpec) -> float:
    """Arithmetic of one image in units of 10^12 operations: a coarse proportional guess.

    A transformer applies its parameters to every token. A convolutional denoiser applies most
    of them at about a quarter of the latent's places on average over its levels. Guidance
    doubles the batch.
    """
    parameters = card.parameters.get(card.family.denoiser, 0)
    guided = 2 if spec.guidance_scale > 1 else 1
    step = 2.0 * parameters * _places(card, spec) * guided
    decode = 2.0 * card.parameters.get(card.family.vae, 0) * computed_pixels(card, spec) / 16
    return (step * _steps(spec) + decode) / 1e12


def _places(card: ModelCard, spec: GroupSpec) -> float:
    """How often a step applies each parameter."""
    if card.family.denoiser == "unet":
        return computed_pixels(card, spec) / card.latent_scale**2 / _UNET_SHARE
    patch = 1 if card.latent_scale > _DEEP_SCALE else _PATCH
    return computed_pixels(card, spec) / (card.latent_scale * patch) ** 2


def _steps(spec: GroupSpec) -> float:
    """Steps that are computed: with an input picture, the share that `strength` names."""
    if spec.kind == TEXT_TO_IMAGE or spec.strength is None:
        return spec.num_inference_steps
    return max(1.0, spec.num_inference_steps * spec.strength)


def seconds_per_image(needs: Requirements, device: Device, tflops: float | None = None) -> float:
    """A guess for a device on which the group was not measured; `tflops` if its speed was."""
    if tflops is None:
        on_cpu = device.vram_bytes == 0
        tflops = ASSUMED_TFLOPS["cpu"] * device.threads if on_cpu else ASSUMED_TFLOPS["gpu"]
    return max(1e-3, needs.tflop_per_image / tflops)


def repays_compiling(needs: Requirements, length: int, *, on_cpu: bool) -> bool:
    """Whether a group of `length` images is long enough for its denoiser to be compiled.

    Every worker compiles for itself, some ten seconds (diffusers: 9.6 s by blocks, 67 s whole,
    for FLUX.1 on an H100), and again in each process; it saves about a third of the steps. Not
    on CPUs: what takes their time are library calls already.
    """
    if on_cpu:
        return False
    return length * needs.tflop_per_image / ASSUMED_TFLOPS["gpu"] >= COMPILE_SECONDS


def image_bytes(spec: GroupSpec) -> int:
    """The size of one PNG, before any was measured."""
    factor = spec.upscaler.factor if spec.upscaler else 1
    return int(spec.pixels * factor**2 * PNG_BYTES_PER_PIXEL)
