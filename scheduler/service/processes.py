"""Whether processes of this machine live, and what devices it has. Loads no torch."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess

import psutil

from storage.db.workers import Worker


def is_alive(worker: Worker) -> bool | None:
    """Whether that worker's process lives; None if it is another machine's."""
    if worker.host != socket.gethostname():
        return None
    try:
        process = psutil.Process(worker.pid)
        # The system hands process numbers out again, after a restart from low ones on; the
        # time of birth tells.
        born = process.create_time()
        return abs(born - worker.process_started_at) < 0.05 and process.status() != "zombie"
    except psutil.NoSuchProcess:
        return False


def devices() -> list[str]:
    """The devices worth rendering on: all visible NVIDIA cards, else the CPU."""
    return [f"cuda:{number}" for number in range(_cuda_count())] or ["cpu"]


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cuda_count() -> int:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([part for part in visible.split(",") if part.strip() not in ("", "-1")])
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    try:
        listed = subprocess.run(  # noqa: S603 - the driver's own tool
            [tool, "--query-gpu=uuid", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return 0
    return len(listed.stdout.split())
