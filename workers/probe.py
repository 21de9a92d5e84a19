"""What this process has: device, memory, dtypes, threads."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
from pathlib import Path

import msgspec
import psutil

from storage.contract.capability import Capability
from storage.contract.classes import class_of
from storage.contract.errors import DeviceLost

_MIB = 1024**2


def class_at(device: str, vram_limit: int | None) -> str:
    """The VRAM class of a device, told without loading torch."""
    if device == "cpu":
        return class_of(vram_limit or 0)
    total = _total_vram(device)
    return class_of(min(total, vram_limit or total))


def probe(device: str, *, threads: int, home: Path, vram_limit: int | None = None) -> Capability:
    """The capability of `device` ("cpu", "cuda:0"), computing with `threads` CPU threads.

    With `vram_limit` (bytes) it passes for a device with at most that much; a CPU then passes
    for a card, which is of use to try out a fleet without having one.
    """
    capability = Capability(
        device=device,
        # The number of threads decides how sums are split, and so the last bits of pixels.
        kind=f"cpu/{threads}",
        name=_processor(),
        ram_bytes=psutil.virtual_memory().available,
        disk_bytes=psutil.disk_usage(str(home)).free,
        threads=threads,
        host=socket.gethostname(),
    )
    if device != "cpu":
        capability = _with_cuda(capability)
    if vram_limit is not None:
        most = capability.vram_bytes or vram_limit
        capability = msgspec.structs.replace(capability, vram_bytes=min(most, vram_limit))
    return capability


def _total_vram(device: str) -> int:
    """Bytes of memory of a card, asked of the driver's own tool."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        raise DeviceLost(
            f"{device}: there is no nvidia-smi, and so no driver",
            hint="install the driver, or use --device cpu",
        )
    try:
        told = subprocess.run(  # noqa: S603 - the driver's own tool
            [
                tool,
                "--query-gpu=memory.total",
                "--format=csv,noheader,nounits",
                f"--id={_driver_id(device)}",
            ],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        return int(told.stdout.split()[0]) * _MIB
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise DeviceLost(
            f"{device} does not answer",
            hint="see what nvidia-smi says; there may be fewer cards, or one that fell out",
        ) from error


def _driver_id(device: str) -> str:
    """What the driver calls the device; CUDA counts only those it is let see."""
    number = int(device.partition(":")[2] or 0)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return str(number)
    names = [name.strip() for name in visible.split(",")]
    if number >= len(names) or names[number] in ("", "-1"):
        raise DeviceLost(
            f"{device} is hidden by CUDA_VISIBLE_DEVICES={visible}",
            hint="name a device among those that are visible, counted from 0",
        )
    return names[number]


def _with_cuda(capability: Capability) -> Capability:
    import torch

    device = torch.device(capability.device)
    free, _ = torch.cuda.mem_get_info(device)
    name = torch.cuda.get_device_name(device)
    half = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    return msgspec.structs.replace(
        capability, kind=name, name=name, vram_bytes=free, dtypes=(half, "float32")
    )


def _processor() -> str:
    """The processor's name as its maker writes it, where the system tells."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "CPU"
