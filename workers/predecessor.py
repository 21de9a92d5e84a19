"""Ending what an earlier process at the same place left behind.

A worker whose process was killed cannot sign off, and in a farm nobody watches it die but the
process that takes its place. That one finds the note here and ends the leases at once, instead
of the whole fleet waiting until they lapse.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil

from storage.contract.errors import StaleTransition
from storage.contract.outcomes import Failure, Reason
from storage.db import tasks, workers
from storage.db.engine import Ledger

_SAME_BIRTH_SECONDS = 0.05


class Process(msgspec.Struct, frozen=True):
    """A process for good: the system hands numbers out again."""

    pid: int
    born: float


class Note(msgspec.Struct, frozen=True):
    """Who works at a place: kept in a file while the process lives."""

    worker_id: int
    process: Process
    parent: Process


def this_process() -> Process:
    """The running process."""
    return _process(os.getpid())


def leave_note(file: Path, worker_id: int) -> None:
    """Say that this process is the worker at this place."""
    note = Note(worker_id, this_process(), _process(os.getppid()))
    partial = file.with_suffix(".partial")
    partial.write_bytes(msgspec.json.encode(note))
    partial.replace(file)


def bury(file: Path, ledger: Ledger) -> bool:
    """End the leases of the worker that the note names, if its process is gone; whether it was.

    If the parent is still the same, the process died by itself, and what it rendered is blamed;
    otherwise all may have ended together (a power cut, a restart), which is nobody's fault.
    """
    with suppress(OSError, msgspec.DecodeError):
        note = msgspec.json.decode(file.read_bytes(), type=Note)
        if _lives(note.process):
            return False
        crashed = note.parent == _process(os.getppid())
        _end(ledger, note.worker_id, Reason.CRASHED if crashed else Reason.LAPSED)
        file.unlink()
        return True
    return False


def _end(ledger: Ledger, worker_id: int, reason: Reason) -> None:
    now = ledger.now()
    detail = "its process died" if reason is Reason.CRASHED else "its process is gone"
    failure = Failure(reason=reason, detail=detail, worker_id=worker_id, at=now)
    with ledger.write() as connection:
        with suppress(StaleTransition):
            workers.leave(connection, worker_id, now=now, detail=detail)
        tasks.end_all(connection, worker_id, now=now, failure=failure)


def _process(pid: int) -> Process:
    return Process(pid, psutil.Process(pid).create_time())


def _lives(process: Process) -> bool:
    try:
        found = psutil.Process(process.pid)
        same = abs(found.create_time() - process.born) < _SAME_BIRTH_SECONDS
        return same and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
