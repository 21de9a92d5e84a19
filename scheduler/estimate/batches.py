"""How many images are computed at once, and by how many processes of a machine. Pure."""

from __future__ import annotations

from typing import Final

from storage.contract.capability import Requirements
from storage.contract.items import BatchShape, GroupSpec, batch_size_for
from storage.contract.models import ModelCard

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

LARGE_DENOISER: Final = 2_000_000_000
"""Parameters from which on one image keeps a card busy (SDXL gains 16 % on an A100 from more)."""

LARGE_ENCODER: Final = 1_000_000_000
"""Parameters of a text encoder from which on one text keeps a device busy."""

FREE_RAM_SHARE: Final = 0.8
"""Of the free host memory, what worker processes may take together."""


def batch_shape(
    card: ModelCard, width: int, height: int, length: int, *, on_cpu: bool
) -> BatchShape:
    """The fixed batch of a group of `length` images, for a fleet with or without GPUs."""
    if card.family.binned:  # whatever is asked for, its own size is computed
        width, height = card.width, card.height
    pixels = CPU_BATCH_PIXELS if on_cpu else GPU_BATCH_PIXELS
    preferred = max(1, min(MAX_BATCH, pixels // (width * height)))
    if card.parameters.get(card.family.denoiser, 0) > LARGE_DENOISER:
        preferred = 1
    if on_cpu:
        preferred = min(preferred, max(SMALL_JOB_BATCH, -(-length // SMALL_JOB_BATCHES)))
    denoise = batch_size_for(length, preferred)
    # Decoding costs many times the denoiser's memory per image, so large images go one by one.
    decode = denoise if width * height <= 128 * 128 else 1
    encoders = [card.parameters.get(name, 0) for _, name in card.family.text_encoders]
    encode = 1 if max(encoders, default=0) > LARGE_ENCODER else 8
    return BatchShape(encode=encode, denoise=denoise, decode=decode)


def cpu_threads(spec: GroupSpec, cores: int) -> int:
    """Threads one CPU worker computes with: a function of the group and the machine only.

    Small pictures do not gain from a second thread (measured: 2 threads were 1.16 times as
    fast as 1 at 64x64, 2 processes of one thread 1.9 times), so each core gets a worker. The
    number decides bits of the result, so it must not depend on what else is running.
    """
    return 1 if spec.pixels <= 256 * 256 else max(1, cores)


def cpu_workers(needs: Requirements, threads: int, cores: int, free_ram: int) -> int:
    """How many CPU workers of `threads` threads a machine carries, in the best mode for one."""
    room = int(free_ram * FREE_RAM_SHARE)
    fitting = [n for n in needs.modes if n.mode.on_cpu and n.memory_bytes <= room]
    best = fitting[0] if fitting else needs.smallest(on_cpu=True)
    by_memory = room // max(1, best.memory_bytes if best else 1)
    return max(1, min(cores // threads, by_memory))
