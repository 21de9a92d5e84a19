"""Ending what an earlier process at the same place left behind.

A worker whose process was killed cannot sign off, and in a farm nobody watches it die but the
process that takes its place. That one finds the note here and ends the leases at once, instead
of the whole fleet waiting until they lapse.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil
import structlog

from storage.contract.errors import StaleTransition
from storage.contract.outcomes import Failure, Reason
from storage.db import tasks, workers
from storage.db.engine import Ledger

_SAME_BIRTH_SECONDS = 0.05

log = structlog.get_logger()


class Process(msgspec.Struct, frozen=True):
    """A process for good: the system hands numbers out again."""

    pid: int
    born: float


class Note(msgspec.Struct, frozen=True):
    """Who works at a place: kept in a file while the process lives."""

    host: str
    process: Process
    parent: Process


def this_process() -> Process:
    """The running process."""
    return _process(os.getpid())


def leave_note(file: Path) -> None:
    """Say that this process is the worker at this place.

    Where that cannot be written (the disk may be full), its leases lapse if it is killed.
    """
    note = Note(socket.gethostname(), this_process(), _process(os.getppid()))
    partial = file.with_suffix(".partial")
    try:
        partial.write_bytes(msgspec.json.encode(note))
        partial.replace(file)
    except OSError as error:
        log.warning("cannot leave a note for a successor", action="no_note", error=str(error))


def take_note_away(file: Path) -> None:
    """This process signed off; the note of one that took its place already stays."""
    with suppress(OSError, msgspec.DecodeError):
        if _same(_read(file).process, this_process()):
            file.unlink()


def bury(file: Path, ledger: Ledger) -> bool:
    """End the leases of the worker that the note names, if its process is gone; whether it was.

    If the parent is still the same, the process died by itself, and what it rendered is blamed;
    otherwise all may have ended together (a power cut, a restart), which is nobody's fault.
    """
    with suppress(OSError, msgspec.DecodeError):
        note = _read(file)
        if _lives(note.process):
            return False
        crashed = _same(note.parent, _process(os.getppid()))
        _end(ledger, note, Reason.CRASHED if crashed else Reason.LAPSED)
        file.unlink()
        return True
    return False


def _read(file: Path) -> Note:
    return msgspec.json.decode(file.read_bytes(), type=Note)


def _end(ledger: Ledger, note: Note, reason: Reason) -> None:
    """End what that process held. Another ledger than it worked for knows nothing of it."""
    now = ledger.now()
    detail = "its process died" if reason is Reason.CRASHED else "its process is gone"
    with ledger.write() as connection:
        worker = workers.find_process(
            connection,
            host=note.host,
            pid=note.process.pid,
            process_started_at=note.process.born,
        )
        if worker is None:
            return
        with suppress(StaleTransition):  # the rescue was faster
            workers.leave(connection, worker.id, now=now, detail=detail)
        failure = Failure(reason=reason, detail=detail, worker_id=worker.id, at=now)
        tasks.end_all(connection, worker.id, now=now, failure=failure)


def _process(pid: int) -> Process:
    """The process of that number; the first one of a container has no parent to be seen."""
    try:
        return Process(pid, psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return Process(pid, 0.0)


def _same(one: Process, other: Process) -> bool:
    return one.pid == other.pid and abs(one.born - other.born) < _SAME_BIRTH_SECONDS


def _lives(process: Process) -> bool:
    try:
        found = psutil.Process(process.pid)
        born = Process(found.pid, found.create_time())
        return _same(born, process) and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
