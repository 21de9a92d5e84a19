"""What this process has: device, memory, dtypes, threads."""

from __future__ import annotations

import platform
import socket
from pathlib import Path

import msgspec
import psutil

from storage.contract.capability import Capability


def probe(device: str, *, threads: int, home: Path) -> Capability:
    """The capability of `device` ("cpu", "cuda:0"), computing with `threads` CPU threads."""
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
    return capability if device == "cpu" else _with_cuda(capability)


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
