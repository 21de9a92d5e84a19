"""Keeping the worker processes of one machine alive, one or more per device.

The supervisor never loads torch, so nothing a renderer does can take it down. It holds a lock
per device, sees how each child ends, ends the leases of one that died (with blame: whatever it
was rendering may have killed it), and starts another. It tells its parent what happens as JSON
lines on standard output.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import msgspec
import psutil
import sqlalchemy as sa

from storage.contract.errors import LedgerError
from storage.contract.outcomes import Failure, Reason
from storage.contract.states import WorkerState
from storage.db import tasks, workers
from storage.db.engine import Ledger
from storage.home import LOCKS, LOGS
from workers.settings import EXIT_SURROUNDINGS
from workers.stopping import Stop

LOOK_SECONDS: Final = 0.1
KILL_MARGIN_SECONDS: Final = 10.0
EARLY_DEATHS: Final = 3
"""Deaths without having claimed anything, after which starting again is pointless."""

PAUSES: Final = (0.5, 1.0, 5.0, 15.0, 30.0)
"""Seconds before a process is started again, growing while it keeps dying early."""

WELL_SECONDS: Final = 60.0
"""A process that lived this long has not died early."""


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the supervisor tells its parent."""

    event: str  #: started, waiting, died, failed, ended
    device: str = ""
    slot: int = 0
    pid: int = 0
    message: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where one worker process runs, and how it is started."""

    device: str
    slot: int
    command: Sequence[str]
    environment: dict[str, str]


@dataclass(kw_only=True, slots=True)
class Child:
    """A worker process under supervision."""

    place: Place
    process: subprocess.Popen[bytes]
    started_at: float  #: as the system knows it: with the pid, it names the process
    log: Path


@dataclass(kw_only=True)
class Supervisor:
    """Runs `places` until every child has ended by itself, or `stop`."""

    places: Sequence[Place]
    home: Path
    ledger: Ledger
    stop: Stop
    grace: float
    tell: Callable[[Event], None]
    lasting: bool = False  #: start processes again whatever they die of, until `stop`
    children: list[Child] = field(default_factory=list)
    _early_deaths: dict[int, int] = field(default_factory=dict)
    _due: list[tuple[float, Place]] = field(default_factory=list)
    _locks: dict[str, IO[str]] = field(default_factory=dict)

    def run(self) -> bool:
        """Supervise; whether all went well."""
        try:
            return self._supervise() if self._lock_devices() else True
        finally:
            self._end_children()
            for file in self._locks.values():
                file.close()

    def _supervise(self) -> bool:
        for place in self.places:
            self._start(place)
        while (self.children or self._due) and not self.stop.requested:
            if not self._look():
                return False
            self._start_due()
            self.stop.wait(LOOK_SECONDS)
        return True

    def _start_due(self) -> None:
        now = time.monotonic()
        for entry in [e for e in self._due if e[0] <= now]:
            self._due.remove(entry)
            self._start(entry[1])

    def _lock_devices(self) -> bool:
        """Take the lock of every device, waiting for others; False if told to stop meanwhile."""
        folder = self.home / LOCKS
        folder.mkdir(parents=True, exist_ok=True)
        for device in dict.fromkeys(place.device for place in self.places):
            file = open(folder / f"{device.replace(':', '-')}.lock", "a+")  # noqa: SIM115
            self._locks[device] = file
            told = False
            while not _try_lock(file):
                if not told:
                    self.tell(Event(event="waiting", device=device, message=_holder(file)))
                    told = True
                if self.stop.wait(0.5):
                    return False
            with suppress(OSError):  # a full disk takes no name, and the lock holds without
                os.ftruncate(file.fileno(), 0)
                os.write(file.fileno(), str(os.getpid()).encode())
        return True

    def _start(self, place: Place) -> None:
        logs = self.home / LOGS
        logs.mkdir(parents=True, exist_ok=True)
        log = logs / f"worker-{place.device.replace(':', '-')}-{place.slot}.log"
        with open(log, "ab") as output:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                place.command,
                stdin=subprocess.PIPE,  # its end tells the child that we are gone
                stdout=output,
                stderr=output,
                env=place.environment,
                # The child holds the device's lock too, so it lasts while any of us lives.
                pass_fds=[self._locks[place.device].fileno()],
            )
        started_at = psutil.Process(process.pid).create_time()
        child = Child(place=place, process=process, started_at=started_at, log=log)
        self.children.append(child)
        self._say("started", child)

    def _look(self) -> bool:
        """Deal with children that ended; False if it makes no sense to go on."""
        for child in [c for c in self.children if c.process.poll() is not None]:
            self._forget(child)
            code = child.process.returncode
            if code == 0 and not self.lasting:
                continue
            if code == EXIT_SURROUNDINGS and not self.lasting:
                self._say("failed", child, _last_words(child.log))
                self._bury(child)
                return False
            worked = self._bury(child)
            words = _last_words(child.log) if code > 0 else ""
            said = f"{_how(code)}: {words}" if words else _how(code)
            self._say("died", child, f"{said}; see {child.log}")
            if not self._start_again(child, worked=worked):
                return False
        return True

    def _start_again(self, child: Child, *, worked: bool) -> bool:
        """Start the child's place again in a moment; False if that is pointless."""
        place = id(child.place)
        if worked or time.time() - child.started_at > WELL_SECONDS:
            self._early_deaths[place] = 0
        else:
            self._early_deaths[place] = self._early_deaths.get(place, 0) + 1
        deaths = self._early_deaths[place]
        if deaths >= EARLY_DEATHS and not self.lasting:
            said = _last_words(child.log) or _how(child.process.returncode)
            self._say("failed", child, said)
            return False
        pause = PAUSES[min(deaths, len(PAUSES)) - 1] if deaths else 0.0
        self._due.append((time.monotonic() + pause, child.place))
        return True

    def _bury(self, child: Child) -> bool:
        """End the dead worker's leases, with blame; whether it had claimed anything.

        Where the ledger cannot be written, the rescue of a later run does it, without blame.
        """
        try:
            with self.ledger.write() as connection:
                return self._end_leases(connection, child)
        except LedgerError as error:
            self._say("died", child, error.message)
            return False

    def _end_leases(self, connection: sa.Connection, child: Child) -> bool:
        how = _how(child.process.returncode)
        now = self.ledger.now()
        worker = workers.find_process(
            connection,
            host=os.uname().nodename,
            pid=child.process.pid,
            process_started_at=child.started_at,
        )
        if worker is None:
            return False
        failure = Failure(reason=Reason.CRASHED, detail=how, worker_id=worker.id, at=now)
        if worker.state != WorkerState.GONE:
            workers.leave(connection, worker.id, now=now, detail=how)
        return bool(tasks.end_all(connection, worker.id, now=now, failure=failure))

    def _say(self, event: str, child: Child, message: str = "") -> None:
        self.tell(
            Event(
                event=event,
                device=child.place.device,
                slot=child.place.slot,
                pid=child.process.pid,
                message=message,
            )
        )

    def _end_children(self) -> None:
        """Ask all to drain, give them the grace, then kill what is left."""
        self._signal(signal.SIGQUIT if self.stop.overdue else signal.SIGTERM)
        hurried = self.stop.overdue
        until = time.monotonic() + (0.0 if hurried else self.grace)
        deadline = until + KILL_MARGIN_SECONDS
        while self._any_runs() and time.monotonic() < deadline:
            if not hurried and self.stop.overdue and time.monotonic() < until - 1.0:
                hurried, deadline = True, time.monotonic() + KILL_MARGIN_SECONDS
                self._signal(signal.SIGQUIT)  # asked again, and not to wait for the grace
            time.sleep(LOOK_SECONDS)
        for child in list(self.children):
            if child.process.poll() is None:
                child.process.kill()
                child.process.wait()
                self._bury(child)
            self._forget(child)

    def _any_runs(self) -> bool:
        return any(child.process.poll() is None for child in self.children)

    def _signal(self, number: signal.Signals) -> None:
        for child in self.children:
            child.process.send_signal(number)

    def _forget(self, child: Child) -> None:
        self.children.remove(child)
        if child.process.stdin is not None:
            with suppress(BrokenPipeError):
                child.process.stdin.close()


def worker_command(program: str, *options: str) -> list[str]:
    """The command of one worker process: `program` is "run", or "consume" with a broker."""
    return [sys.executable, "-m", "workers", program, *options]


def worker_environment(threads: int) -> dict[str, str]:
    """The environment of a worker: quiet libraries, no remote code, no surplus threads."""
    return os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "DIFFUSERS_VERBOSITY": "error",
        "DIFFUSERS_DISABLE_REMOTE_CODE": "true",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def _try_lock(file: IO[Any]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(file: IO[str]) -> str:
    file.seek(0)
    return f"another rendermill (process {file.read().strip() or 'unknown'}) uses it"


def _how(code: int) -> str:
    """How a process ended, in words."""
    if code < 0:
        known = {one.value: one.name for one in signal.Signals}
        return f"its process was ended by {known.get(-code, f'signal {-code}')}"
    return f"its process ended with exit code {code}"


def _last_words(log: Path) -> str:
    """The last line a child wrote that is not blank."""
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - 8192))
        lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""
