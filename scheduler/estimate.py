"""How much memory, time and space a group needs. Pure; the formulas are in the functions.

Memory: weights of what is on the device at once, plus the larger of the phases' activations,
plus overhead. Activation constants stand in the family's record. Time before anything was
measured: arithmetic over an assumed speed, to the nearest power of two at best.
"""

from __future__ import annotations

from typing import Final

from storage.contract.capability import Device, Mode, ModeNeed, Requirements
from storage.contract.classes import GIB
from storage.contract.items import BatchShape, GroupSpec, batch_size_for
from storage.contract.models import ModelCard

_BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}
_GPU_CONTEXT: Final = int(0.7 * GIB)  # CUDA's own, outside any allocator
_CPU_PROCESS: Final = int(0.6 * GIB)  # the interpreter with torch and diffusers loaded
_MARGIN: Final = 1.1

GPU_BATCH_PIXELS: Final = 4 * 512 * 512
"""Batching pays up to about four images of 512x512 on large cards."""

CPU_BATCH_PIXELS: Final = 16 * 64 * 64
"""A CPU gains from batching only while a single image is too small to keep it busy.

Measured on one thread at 64x64: 339 ms an image alone, 148 in batches of 8, 119 in 16, 123 in 32.
"""

SMALL_JOB_BATCHES: Final = 4
SMALL_JOB_BATCH: Final = 8
"""A small job on CPUs is cut into this many batches, down to this size, so that several worker
processes share it evenly."""

MAX_BATCH: Final = 16

PNG_BYTES_PER_PIXEL: Final = 1.7
"""Photo-like content at compression level 1; flat pictures take far less."""

ASSUMED_TFLOPS: Final = {"cpu": 0.05, "gpu": 20.0}
"""Arithmetic speed assumed per CPU thread and per GPU until something was measured."""


def batch_shape(
    card: ModelCard, width: int, height: int, length: int, *, on_cpu: bool
) -> BatchShape:
    """The fixed batch of a group of `length` images, for a fleet with or without GPUs."""
    pixels = CPU_BATCH_PIXELS if on_cpu else GPU_BATCH_PIXELS
    preferred = max(1, min(MAX_BATCH, pixels // (width * height)))
    if sum(card.parameters.values()) > 2_000_000_000:
        preferred = 1
    if on_cpu:
        preferred = min(preferred, max(SMALL_JOB_BATCH, -(-length // SMALL_JOB_BATCHES)))
    denoise = batch_size_for(length, preferred)
    # Decoding costs many times the denoiser's memory per image, so large images go one by one.
    decode = denoise if width * height <= 128 * 128 else 1
    return BatchShape(encode=8, denoise=denoise, decode=decode)


def requirements(card: ModelCard, spec: GroupSpec) -> Requirements:
    """What the group needs in each mode, fastest mode first."""
    modes = (
        ModeNeed(mode=Mode.RESIDENT, memory_bytes=_gpu_bytes(card, spec)),
        ModeNeed(mode=Mode.CPU, memory_bytes=_cpu_bytes(card, spec)),
    )
    return Requirements(
        modes=modes, disk_bytes=card.weight_bytes, tflop_per_image=tflop(card, spec)
    )


def tflop(card: ModelCard, spec: GroupSpec) -> float:
    """Arithmetic of one image in units of 10^12 operations: a coarse proportional guess.

    A convolutional denoiser applies most parameters at about a quarter of the latent's places
    on average over its levels; guidance doubles the batch.
    """
    latent_places = spec.pixels / card.family.size_multiple**2
    guided = 2 if spec.guidance_scale > 1 else 1
    parameters = card.parameters[card.family.denoiser]
    step = 2.0 * parameters * latent_places / 4 * guided
    decode = 2.0 * card.parameters["vae"] * spec.pixels / 16
    return (step * spec.num_inference_steps + decode) / 1e12


def seconds_per_image(needs: Requirements, device: Device, tflops: float | None = None) -> float:
    """A guess for a device on which the group was not measured; `tflops` if its speed was."""
    if tflops is None:
        on_cpu = device.vram_bytes == 0
        tflops = ASSUMED_TFLOPS["cpu"] * device.threads if on_cpu else ASSUMED_TFLOPS["gpu"]
    return max(1e-3, needs.tflop_per_image / tflops)


def image_bytes(spec: GroupSpec) -> int:
    """The size of one PNG, before any was measured."""
    return int(spec.pixels * PNG_BYTES_PER_PIXEL)


def cpu_threads(spec: GroupSpec, cores: int) -> int:
    """Threads one CPU worker computes with: a function of the group and the machine only.

    Small pictures do not gain from a second thread (measured: 2 threads were 1.16 times as
    fast as 1 at 64x64, 2 processes of one thread 1.9 times), so each core gets a worker. The
    number decides bits of the result, so it must not depend on what else is running.
    """
    return 1 if spec.pixels <= 256 * 256 else max(1, cores)


def cpu_workers(needs: Requirements, threads: int, cores: int, free_ram: int) -> int:
    """How many CPU workers of `threads` threads a machine carries."""
    need = needs.smallest(on_cpu=True)
    by_memory = int(free_ram * 0.8) // max(1, need.memory_bytes if need else 1)
    return max(1, min(cores // threads, by_memory))


def _gpu_bytes(card: ModelCard, spec: GroupSpec) -> int:
    width = _BYTES.get(spec.dtype, 2)
    activations = _activations(card, spec, width)
    return int((_weights(card) * width + activations) * _MARGIN) + _GPU_CONTEXT


def _weights(card: ModelCard) -> int:
    return sum(card.parameters.values())


def _cpu_bytes(card: ModelCard, spec: GroupSpec) -> int:
    width = _BYTES.get(spec.dtype, 4)
    weights = _weights(card) * width
    return int((weights + _activations(card, spec, width)) * _MARGIN) + _CPU_PROCESS


def _activations(card: ModelCard, spec: GroupSpec, width: int) -> float:
    """The larger of denoising and decoding; the constants are for two bytes a value."""
    family = card.family
    denoise = family.denoise_bytes_per_pixel * spec.pixels * spec.batch.denoise
    decode = family.decode_bytes_per_pixel * spec.pixels * spec.batch.decode
    return max(denoise, decode) * width / 2
