"""Ending what a killed worker held: by the process that takes its place."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from storage.contract.outcomes import Reason
from storage.contract.states import WorkerState
from storage.db import workers
from storage.db.engine import Ledger
from storage.objects.memory import MemoryStore
from storage.testing.factories import add_job, cut_task, make_capability
from workers.predecessor import Note, Process, bury, leave_note, take_note_away, this_process

DEAD = Process(2**22 - 1, 1.0)  # beyond the largest number Linux gives


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cpu-0.worker"


@pytest.fixture
def register(ledger: Ledger) -> Callable[[Process], int]:
    """A worker that runs as that process, with a task under lease."""

    def registered(process: Process) -> int:
        with ledger.write() as connection:
            worker_id = workers.register(
                connection,
                make_capability(host=socket.gethostname()),
                name="one",
                pid=process.pid,
                process_started_at=process.born,
                now=1.0,
            )
        assert cut_task(ledger, worker_id, items=8) is not None
        return worker_id

    return registered


def note(file: Path, process: Process, parent: Process) -> None:
    file.write_bytes(msgspec.json.encode(Note(socket.gethostname(), process, parent)))


def parent() -> Process:
    import psutil

    return Process(os.getppid(), psutil.Process(os.getppid()).create_time())


def state_of(ledger: Ledger, worker_id: int) -> str:
    with ledger.read() as connection:
        return workers.find(connection, str(worker_id)).state


def reasons_of_next(ledger: Ledger, worker_id: int) -> list[Reason]:
    """What is said against the items the dead one held, when they are claimed again."""
    again = cut_task(ledger, worker_id, items=8, lease=9, now=1e12)
    assert again is not None
    return [failure.reason for failure in again.failures]


def test_a_worker_that_died_under_the_same_parent_is_buried_with_blame(
    file: Path, ledger: Ledger, store: MemoryStore, register: Callable[[Process], int]
) -> None:
    add_job(ledger, store)
    worker_id = register(DEAD)
    note(file, DEAD, parent())

    assert bury(file, ledger)

    assert state_of(ledger, worker_id) == WorkerState.GONE
    assert reasons_of_next(ledger, worker_id) == [Reason.CRASHED]
    assert not file.exists()


def test_what_ended_with_its_parent_is_nobodys_fault(
    file: Path, ledger: Ledger, store: MemoryStore, register: Callable[[Process], int]
) -> None:
    add_job(ledger, store)
    worker_id = register(DEAD)
    note(file, DEAD, DEAD)

    assert bury(file, ledger)

    assert state_of(ledger, worker_id) == WorkerState.GONE
    assert reasons_of_next(ledger, worker_id) == [Reason.LAPSED]


def test_a_worker_that_lives_is_left_alone(
    file: Path, ledger: Ledger, store: MemoryStore, register: Callable[[Process], int]
) -> None:
    add_job(ledger, store)
    worker_id = register(this_process())
    leave_note(file)

    assert not bury(file, ledger)

    assert state_of(ledger, worker_id) == WorkerState.LIVE
    assert file.exists()


def test_a_process_number_that_was_given_out_again_is_another_process(
    file: Path, ledger: Ledger, store: MemoryStore, register: Callable[[Process], int]
) -> None:
    add_job(ledger, store)
    earlier = Process(os.getpid(), this_process().born - 3600)
    worker_id = register(earlier)
    note(file, earlier, DEAD)

    assert bury(file, ledger)
    assert state_of(ledger, worker_id) == WorkerState.GONE


def test_a_ledger_the_dead_one_did_not_work_for_is_not_touched(
    file: Path, ledger: Ledger, store: MemoryStore, register: Callable[[Process], int]
) -> None:
    add_job(ledger, store)
    other = register(this_process())
    note(file, DEAD, parent())

    assert bury(file, ledger)

    assert state_of(ledger, other) == WorkerState.LIVE


def test_one_that_signed_off_by_itself_is_not_a_problem(
    file: Path, ledger: Ledger, store: MemoryStore, register: Callable[[Process], int]
) -> None:
    add_job(ledger, store)
    worker_id = register(DEAD)
    with ledger.write() as connection:
        workers.leave(connection, worker_id, now=2.0)
    note(file, DEAD, parent())

    assert bury(file, ledger)


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"pid": 1}'])
def test_without_a_note_that_can_be_read_there_is_nothing_to_do(
    file: Path, ledger: Ledger, content: bytes | None
) -> None:
    if content is not None:
        file.write_bytes(content)

    assert not bury(file, ledger)


def test_a_worker_takes_its_own_note_away_and_not_its_successors(file: Path) -> None:
    note(file, DEAD, DEAD)
    take_note_away(file)
    assert file.exists()

    leave_note(file)
    take_note_away(file)
    assert not file.exists()

    take_note_away(file)  # safe to repeat


def test_a_worker_that_cannot_leave_a_note_works_without_one(tmp_path: Path) -> None:
    leave_note(tmp_path / "no such folder" / "cpu-0.worker")
    assert list(tmp_path.iterdir()) == []
