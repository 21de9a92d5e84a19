"""Worker processes of this machine: starting their supervisors, hearing and ending them.

The scheduler may not import the workers; it starts their supervisor as a process of its own,
one per device, and reads JSON lines from it.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

import msgspec

from storage.settings import without_farm

END_SECONDS: Final = 15.0


class DevicePlan(msgspec.Struct, frozen=True, kw_only=True):
    """How many worker processes a device gets, and with how many CPU threads each."""

    device: str
    processes: int = 1
    threads: int = 1


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What all worker processes are told alike."""

    home: Path
    job_id: int | None = None  #: work for this job only, and leave when it needs no more
    grace: float = 30.0
    renderer: str = "diffusers"
    fake_seconds: float = 0.0
    vram_limit: int | None = None
    vram_class: str | None = None  #: what the device must be of
    name: str | None = None
    sleep: str | None = None
    apart: bool = False  #: work on `home` alone, whatever farm the environment names


class Told(msgspec.Struct, kw_only=True):
    """A line from a supervisor."""

    event: str
    device: str = ""
    slot: int = 0
    pid: int = 0
    message: str = ""


class Supervisors:
    """The supervisors this process started, one per device."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._processes: list[subprocess.Popen[bytes]] = []
        self._told: queue.SimpleQueue[Told] = queue.SimpleQueue()
        self._readers: list[threading.Thread] = []

    def start(self, plan: DevicePlan) -> None:
        """Start the supervisor of one device."""
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            self._command(plan),
            stdin=subprocess.PIPE,  # its end tells the supervisor that we are gone
            stdout=subprocess.PIPE,
            env=without_farm(os.environ) if self._orders.apart else None,
            # A terminal's Ctrl-C must reach us alone: we decide what it means.
            start_new_session=True,
        )
        self._processes.append(process)
        reader = threading.Thread(target=self._listen, args=(process.stdout,), daemon=True)
        reader.start()
        self._readers.append(reader)

    def interrupt(self, *, at_once: bool = False) -> None:
        """Ask the workers to finish their batch and hand back the rest, or to stop now."""
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGQUIT if at_once else signal.SIGTERM)

    def hear(self) -> Iterator[Told]:
        """What the supervisors said since the last time."""
        while not self._told.empty():
            yield self._told.get()

    @property
    def running(self) -> bool:
        """Whether any of them lives."""
        return any(process.poll() is None for process in self._processes)

    def wait(self, seconds: float) -> None:
        """Wait until one of them ends, but not longer."""
        for process in [one for one in self._processes if one.poll() is None][:1]:
            with suppress(subprocess.TimeoutExpired):
                process.wait(seconds)

    def close(self) -> None:
        """End everything that was started; safe to repeat."""
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()  # tells the supervisor to drain
        for process in self._processes:
            try:
                process.wait(self._orders.grace + END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for reader in self._readers:
            reader.join()

    def _command(self, plan: DevicePlan) -> list[str]:
        orders = self._orders
        options = {
            "--home": orders.home.resolve(),
            "--job": orders.job_id,
            "--device": plan.device,
            "--processes": plan.processes,
            "--threads": plan.threads,
            "--grace": orders.grace,
            "--renderer": orders.renderer,
            "--fake-seconds": orders.fake_seconds,
            "--vram-limit": orders.vram_limit,
            "--vram-class": orders.vram_class,
            "--name": orders.name,
            "--sleep": orders.sleep,
        }
        given = [(name, str(value)) for name, value in options.items() if value is not None]
        return [sys.executable, "-m", "workers", "supervise", *(x for pair in given for x in pair)]

    def _listen(self, lines: IO[bytes]) -> None:
        with lines:
            for line in lines:
                with suppress(msgspec.DecodeError):
                    self._told.put(msgspec.json.decode(line, type=Told))
