"""The supervisor with small children that end as they are told."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from storage.contract.outcomes import Reason
from storage.db import workers
from storage.db.engine import Ledger
from storage.objects.memory import MemoryStore
from storage.testing.factories import add_job, cut_task, make_capability
from workers.settings import EXIT_SURROUNDINGS
from workers.stopping import Stop
from workers.supervise import (
    EARLY_DEATHS,
    PAUSES,
    Child,
    Event,
    Place,
    Supervisor,
    worker_environment,
)


class Told:
    """Collects events and lets a test wait for one."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._changed = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait_for(self, name: str) -> Event:
        with self._changed:
            found = self._changed.wait_for(lambda: self._find(name), 60)
        assert found is not None, self.names
        return found

    def wait_for_count(self, name: str, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.names.count(name) >= count, 60), self.names

    @property
    def names(self) -> list[str]:
        return [event.event for event in self.events]

    def _find(self, name: str) -> Event | None:
        return next((event for event in self.events if event.event == name), None)


Supervise = Callable[..., Supervisor]


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def supervise(ledger: Ledger, tmp_path: Path, told: Told, stop: Stop) -> Supervise:
    def made(*programs: str, grace: float = 30.0, lasting: bool = False) -> Supervisor:
        places = [
            Place(
                device="cpu",
                slot=slot,
                command=[sys.executable, "-c", program],
                environment=dict(os.environ),
            )
            for slot, program in enumerate(programs)
        ]
        return Supervisor(
            places=places,
            home=tmp_path,
            ledger=ledger,
            stop=stop,
            grace=grace,
            tell=told,
            lasting=lasting,
        )

    return made


WAIT = "import sys; sys.stdin.read()"


def test_children_that_end_well_end_the_supervisor(supervise: Supervise, told: Told) -> None:
    assert supervise("pass", "pass").run()
    assert told.names == ["started", "started"]


def test_a_child_whose_surroundings_failed_it_ends_all_and_its_words_are_passed_on(
    supervise: Supervise, told: Told
) -> None:
    failing = (
        f"import sys; print('the disk is full', file=sys.stderr); sys.exit({EXIT_SURROUNDINGS})"
    )

    assert not supervise(WAIT, failing).run()
    assert told.wait_for("failed").message == "the disk is full"


def test_a_child_that_dies_before_it_does_anything_is_not_started_for_ever(
    supervise: Supervise, told: Told
) -> None:
    assert not supervise("raise SystemExit('no such module')").run()

    assert told.names.count("started") == EARLY_DEATHS
    assert told.wait_for("failed").message == "no such module"


def test_a_worker_that_dies_is_buried_with_blame_and_replaced(
    supervise: Supervise, told: Told, ledger: Ledger, store: MemoryStore, tmp_path: Path
) -> None:
    add_job(ledger, store)
    marker = tmp_path / "second time"
    program = (
        "import os, pathlib, sys\n"
        f"marker = pathlib.Path({str(marker)!r})\n"
        "if marker.exists(): sys.exit(0)\n"
        "marker.touch(); sys.stdin.readline(); os.abort()"
    )
    supervisor = supervise(program)
    running = threading.Thread(target=supervisor.run)
    running.start()
    child = psutil.Process(told.wait_for("started").pid)
    with ledger.write() as connection:
        worker_id = workers.register(
            connection,
            make_capability(host=socket.gethostname()),
            name="child",
            pid=child.pid,
            process_started_at=child.create_time(),
            now=1.0,
        )
    task = cut_task(ledger, worker_id, items=8)
    assert task is not None

    pipe = supervisor.children[0].process.stdin
    assert pipe is not None
    pipe.write(b"die\n")
    pipe.flush()
    running.join(60)

    assert told.names == ["started", "died", "started"]
    assert "SIGABRT" in told.wait_for("died").message
    again = cut_task(ledger, worker_id, items=8, now=1e12)
    assert again is not None
    assert again.items == 4, "what killed its worker comes back halved"
    assert [failure.reason for failure in again.failures] == [Reason.CRASHED]
    with ledger.read() as connection:
        assert list(workers.present(connection)) == []


def test_told_to_stop_it_ends_its_children(supervise: Supervise, told: Told, stop: Stop) -> None:
    obeys = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n" + WAIT
    supervisor = supervise(obeys, obeys)
    running = threading.Thread(target=supervisor.run)
    running.start()
    told.wait_for("started")

    stop.drain(30, "test")
    running.join(60)

    assert not running.is_alive()
    assert told.names == ["started", "started"]


def test_a_child_that_ignores_the_end_of_its_grace_is_killed(
    supervise: Supervise, told: Told, stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.supervise.KILL_MARGIN_SECONDS", 0.2)
    deaf = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('deaf', flush=True)\n"
        "time.sleep(600)"
    )
    supervisor = supervise(deaf, grace=0.0)
    running = threading.Thread(target=supervisor.run)
    running.start()
    child = psutil.Process(told.wait_for("started").pid)

    stop.drain(60, "test")
    running.join(60)

    assert not child.is_running()


def test_a_device_belongs_to_one_supervisor_at_a_time(
    supervise: Supervise, told: Told, ledger: Ledger, tmp_path: Path
) -> None:
    first = supervise(WAIT)
    running = threading.Thread(target=first.run)
    running.start()
    told.wait_for("started")
    second_told, second_stop = Told(), Stop()
    second = Supervisor(
        places=first.places,
        home=tmp_path,
        ledger=ledger,
        stop=second_stop,
        grace=1.0,
        tell=second_told,
    )
    waiting = threading.Thread(target=second.run)
    waiting.start()

    assert f"process {os.getpid()}" in second_told.wait_for("waiting").message
    assert second_told.names == ["waiting"]

    second_stop.drain(0, "test")
    waiting.join(60)
    first.stop.drain(0, "test")
    running.join(60)
    assert second_told.names == ["waiting"]


def test_a_worker_runs_with_its_threads_and_without_remote_code() -> None:
    environment = worker_environment(3)

    assert environment["OMP_NUM_THREADS"] == "3"
    assert environment["DIFFUSERS_DISABLE_REMOTE_CODE"] == "true"
    assert environment["PATH"] == os.environ["PATH"]


def test_one_that_lasts_starts_its_children_again_whatever_they_die_of(
    supervise: Supervise, told: Told, stop: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.supervise.PAUSES", (0.0,))
    codes = (0, 1, EXIT_SURROUNDINGS, 0, 1, EXIT_SURROUNDINGS)
    counter = supervise("pass").home / "count"
    program = (
        "import pathlib, sys\n"
        f"file = pathlib.Path({str(counter)!r})\n"
        "number = int(file.read_text()) if file.exists() else 0\n"
        "file.write_text(str(number + 1))\n"
        f"codes = {codes}\n"
        "if number < len(codes): print('word', number, flush=True); sys.exit(codes[number])\n"
        "sys.stdin.read()"
    )
    supervisor = supervise(program, lasting=True)
    running = threading.Thread(target=supervisor.run)
    running.start()
    told.wait_for_count("started", len(codes) + 1)
    stop.drain(0, "test")
    running.join(60)

    assert told.names == ["started", "died"] * len(codes) + ["started"]
    died = [event.message for event in told.events if event.event == "died"]
    assert died[1].startswith("its process ended with exit code 1: word 1; see ")


def test_pauses_grow_while_a_place_dies_early_and_begin_anew_once_it_did_well(
    supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = supervise("pass", lasting=True)
    monkeypatch.setattr("workers.supervise.time.monotonic", lambda: 100.0)
    monkeypatch.setattr("workers.supervise.time.time", lambda: 1000.0)

    def pause(*, worked: bool = False, started_at: float = 999.0) -> float:
        child = Child(
            place=supervisor.places[0],
            process=Ended(),  # type: ignore[arg-type]
            started_at=started_at,
            log=supervisor.home / "log",
        )
        assert supervisor._start_again(child, worked=worked)
        (due, _place) = supervisor._due.pop()
        return due - 100.0

    assert [pause() for _ in range(7)] == [*PAUSES, PAUSES[-1], PAUSES[-1]]
    assert pause(worked=True) == 0.0
    assert pause() == PAUSES[0]
    assert pause(started_at=900.0) == 0.0, "it lived for more than a minute"


class Ended:
    """A process that ended."""

    returncode = 1


def test_asked_again_while_its_children_drain_it_hurries_them(
    supervise: Supervise, told: Told, stop: Stop
) -> None:
    program = (
        "import pathlib, signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('drains', flush=True))\n"
        "print('ready', flush=True)\n"
        "while True: signal.pause()"
    )
    supervisor = supervise(program, grace=3600.0)
    running = threading.Thread(target=supervisor.run)
    running.start()
    told.wait_for("started")
    log = supervisor.children[0].log
    child = psutil.Process(told.wait_for("started").pid)
    _wait_for_line(log, "ready")
    stop.drain(3600.0, "asked to drain")
    _wait_for_line(log, "drains")
    assert child.is_running()

    stop.drain(0.0, "asked to stop at once")
    running.join(60)

    assert not running.is_alive()
    assert not child.is_running()


def _wait_for_line(log: Path, line: str) -> None:
    deadline = time.monotonic() + 60
    while line not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.01)
