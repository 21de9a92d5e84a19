"""Whether processes of this machine live, and what devices it has."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from scheduler.service import processes
from storage.contract.claims import Progress
from storage.contract.states import WorkerState
from storage.db.workers import Worker
from storage.testing.factories import make_capability


def make_worker(**overrides: Any) -> Worker:
    """This very process, registered as a worker."""
    values: dict[str, Any] = {
        "id": 1,
        "name": "here/cpu#1",
        "state": WorkerState.LIVE,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process_started_at": psutil.Process().create_time(),
        "capability": make_capability(),
        "progress": Progress(),
        "started_at": 1.0,
        "seen_at": 1.0,
    }
    return Worker(**(values | overrides))


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits for its input to end."""
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    ) as process:
        yield process
        process.kill()


def test_this_process_lives() -> None:
    assert processes.is_alive(make_worker()) is True


def test_of_another_machine_nothing_is_known() -> None:
    assert processes.is_alive(make_worker(host="elsewhere")) is None


def test_another_process_with_the_number_of_a_dead_one_is_not_it() -> None:
    born = psutil.Process().create_time()
    assert processes.is_alive(make_worker(process_started_at=born - 1)) is False


def test_a_process_is_dead_once_it_ended_and_already_while_nobody_took_notice(
    child: subprocess.Popen[bytes],
) -> None:
    worker = make_worker(pid=child.pid, process_started_at=psutil.Process(child.pid).create_time())
    assert processes.is_alive(worker) is True
    child.kill()
    # Waits for its end and leaves it a zombie.
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert processes.is_alive(worker) is False
    child.wait()
    assert processes.is_alive(worker) is False


def test_there_are_cores() -> None:
    assert 1 <= processes.cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("visible", "devices"),
    [
        ("0", ["cuda:0"]),
        ("3,5", ["cuda:0", "cuda:1"]),
        ("GPU-12345678, GPU-9", ["cuda:0", "cuda:1"]),
        ("", ["cpu"]),
        (" ", ["cpu"]),
        ("-1", ["cpu"]),
    ],
)
def test_the_visible_cards_are_the_devices(
    monkeypatch: pytest.MonkeyPatch, visible: str, devices: list[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert processes.devices() == devices


@pytest.mark.parametrize(
    ("script", "devices"),
    [
        ("echo GPU-1; echo GPU-2", ["cuda:0", "cuda:1"]),
        ("true", ["cpu"]),
        ("echo 'NVIDIA-SMI has failed'; exit 9", ["cpu"]),
    ],
    ids=["two cards", "none", "broken driver"],
)
def test_without_a_choice_the_driver_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, devices: list[str]
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert processes.devices() == devices


def test_a_machine_without_the_driver_renders_on_its_cpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert processes.devices() == ["cpu"]
