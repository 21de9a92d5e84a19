"""The devices of this machine and the memory they have free now. Loads no torch."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence

import psutil

from storage.contract.capability import Capability
from storage.contract.classes import GIB

CUDA_CONTEXT = int(0.7 * GIB)
"""Of a card's memory, what CUDA itself takes in each process: what torch can have is the rest."""

_MIB = 1 << 20


def capability_of(device: str, *, threads: int, vram_limit: int | None = None) -> Capability:
    """What a worker on `device` would have, as far as it can be told without loading torch.

    With `vram_limit` (bytes) it passes for a card with at most so much.
    """
    ram = psutil.virtual_memory().available
    if device == "cpu":
        return Capability(
            device=device,
            kind=f"cpu/{threads}",
            name="this CPU",
            vram_bytes=vram_limit or 0,
            ram_bytes=ram,
            threads=threads,
        )
    name, free = _card(device)
    free = min(free, vram_limit or free)
    return Capability(device=device, kind=name, name=name, vram_bytes=free, ram_bytes=ram)


def _card(device: str) -> tuple[str, int]:
    """Name of a card, and bytes that torch could have of it; 1 byte if the driver says nothing."""
    tool = shutil.which("nvidia-smi")
    if tool is None or not device.startswith("cuda"):
        return device, 1
    number = device.partition(":")[2] or "0"
    query = ["--query-gpu=name,memory.free", "--format=csv,noheader,nounits", f"--id={number}"]
    return parse_card(_ask([tool, *query])) or (device, 1)


def parse_card(told: str) -> tuple[str, int] | None:
    """Name and bytes that torch could have, of what nvidia-smi told: ``NVIDIA L4, 22563``."""
    name, comma, free = told.strip().rpartition(",")
    if not comma or not free.strip().isdigit():
        return None
    return name.strip(), max(1, int(free) * _MIB - CUDA_CONTEXT)


def _ask(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - the driver's own tool
            command, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
