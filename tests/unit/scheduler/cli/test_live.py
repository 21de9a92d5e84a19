"""The live display of a run."""

from __future__ import annotations

import io
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from scheduler.cli import live
from scheduler.cli.live import LINE_SECONDS, LOOK_SECONDS, show
from scheduler.service.watching import Snapshot
from storage.contract.claims import Progress
from storage.contract.states import JobState, WorkerState
from storage.db.jobs import Job
from storage.db.workers import Worker
from storage.testing.factories import FakeClock, make_capability


def make_snapshot(done: int, **overrides: Any) -> Snapshot:
    job = Job(
        *(1, "shapes", JobState.OPEN, "digest", "token", "a.txt", "{}"),
        *(0, 100, done, overrides.pop("failed", 0), 0, 1.0, None),
        *("", None, "auto", None),
    )
    values: dict[str, Any] = {
        "job": job,
        "workers": (),
        "images_per_second": None,
        "seconds_left": None,
        "running": True,
    }
    return Snapshot(**(values | overrides))


def make_worker(number: int, progress: Progress) -> Worker:
    return Worker(
        id=number,
        name=f"testhost/cpu#{number}",
        state=WorkerState.LIVE,
        host="testhost",
        pid=number,
        process_started_at=1.0,
        capability=make_capability(),
        progress=progress,
        started_at=1.0,
        seen_at=1.0,
    )


class Run:
    """A run that goes through these states, and then stays in the last."""

    def __init__(self, *snapshots: Snapshot) -> None:
        self._left: Iterator[Snapshot] = iter(snapshots)
        self._last = snapshots[0]

    def look(self) -> Snapshot:
        self._last = next(self._left, self._last)
        return self._last


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Time passes by sleeping alone."""
    made = FakeClock()
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=made, sleep=made.advance))
    return made


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=160, color_system=None)
    monkeypatch.setattr(live, "err", console)
    return file


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A file instead of a terminal."""
    file = io.StringIO()
    monkeypatch.setattr(live, "err", Console(file=file, force_terminal=False, width=100))
    return file


def watch(*snapshots: Snapshot, quiet: bool = False, interrupted: bool = False) -> Any:
    run: Any = Run(*snapshots)
    return show(run, quiet=quiet, interrupted=lambda: interrupted)


def test_a_run_is_watched_to_its_end_and_looked_at_once_more(log: io.StringIO) -> None:
    states = [make_snapshot(n) for n in range(3)]
    ended, after = make_snapshot(98, running=False), make_snapshot(100, running=False)
    last, seconds = watch(*states, ended, after)
    assert last is after
    assert seconds == 3 * LOOK_SECONDS


def test_where_there_is_no_terminal_progress_is_a_line_now_and_then(log: io.StringIO) -> None:
    looks = round(3.5 * LINE_SECONDS / LOOK_SECONDS)
    watch(
        *[make_snapshot(n // 10, failed=1) for n in range(looks)], make_snapshot(99, running=False)
    )
    lines = log.getvalue().splitlines()
    assert len(lines) == 3
    assert all("/100" in line and "1 failed" in line for line in lines)


def test_a_quiet_run_says_nothing(log: io.StringIO, screen: io.StringIO) -> None:
    looks = round(3 * LINE_SECONDS / LOOK_SECONDS)
    watch(*[make_snapshot(n) for n in range(looks)], make_snapshot(99, running=False), quiet=True)
    assert log.getvalue() + screen.getvalue() == ""


def test_a_terminal_shows_the_job_and_what_each_worker_does(screen: io.StringIO) -> None:
    workers = (
        make_worker(1, Progress(phase="denoise", batch=2, batches=5, step=3, steps=20)),
        make_worker(2, Progress(phase="idle")),
    )
    busy = make_snapshot(41, workers=workers, images_per_second=2.5, seconds_left=128.0, failed=2)
    watch(busy, make_snapshot(100, running=False))
    shown = screen.getvalue()
    assert "shapes" in shown
    assert "43/100  2.50 images/s  2 m 08 s left  2 failed" in shown
    first = next(line for line in shown.splitlines() if "cpu#1" in line)
    second = next(line for line in shown.splitlines() if "cpu#2" in line)
    assert first.split()[-5:] == ["denoise", "batch", "2/5", "step", "3/20"]
    assert second.split()[-1] == "idle"


def test_a_run_without_workers_yet_says_what_it_waits_for(screen: io.StringIO) -> None:
    watch(
        make_snapshot(0),
        make_snapshot(0, waiting="cpu: another rendermill (process 7) uses it"),
        make_snapshot(0, running=False),
    )
    shown = screen.getvalue()
    assert "starting workers" in shown
    assert "waiting: cpu: another rendermill (process 7) uses it" in shown


def test_an_interrupted_run_says_that_nothing_is_lost(screen: io.StringIO) -> None:
    watch(make_snapshot(1), make_snapshot(2, running=False), interrupted=True)
    assert "Stopping after this batch; nothing is lost." in screen.getvalue()
