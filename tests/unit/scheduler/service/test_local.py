"""Rendering a job on this machine: the plan, and how a run stands."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from scheduler.service import local, processes, watching
from scheduler.service.local import LocalRun, RunOptions, plan
from scheduler.service.supervisors import DevicePlan
from scheduler.service.watching import RATE_WINDOW_SECONDS
from storage.contract.claims import ClaimedTask
from storage.contract.classes import GIB
from storage.db import jobs, tasks
from storage.db.engine import Ledger
from storage.db.groups import GroupView
from storage.objects.folder import FolderStore
from storage.opening import Mill
from storage.settings import Connections
from storage.testing.factories import (
    FakeClock,
    add_job,
    add_worker,
    cut_task,
    make_image_row,
    make_item,
    make_requirements,
    make_spec,
    ref_of,
)

CORES = 8


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight cores, sixteen free GiB, no cards."""
    monkeypatch.setattr(processes, "cores", lambda: CORES)
    monkeypatch.setattr(processes, "devices", lambda: ["cpu"])
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=16 * GIB))


def make_group(*, items: int = 1000, cpu_bytes: int = GIB, **overrides: Any) -> GroupView:
    spec = {
        name: overrides.pop(name) for name in ("width", "height", "denoise") if name in overrides
    }
    values: dict[str, Any] = {
        "id": 1,
        "job_id": 1,
        "spec": make_spec(**spec),
        "requirements": make_requirements(cpu_bytes),
        "first_item": 0,
        "stop_item": items,
        "claimable": items,
        "leased": 0,
        "done": 0,
        "failed": 0,
    }
    return GroupView(**(values | overrides))


# The plan

LARGE = {"width": 1024, "height": 1024}


@pytest.mark.parametrize(
    ("groups", "planned", "threads"),
    [
        ([make_group()], CORES, 1),
        ([make_group(**LARGE)], 1, CORES),
        ([make_group(), make_group(**LARGE)], 1, CORES),
        ([make_group(cpu_bytes=4 * GIB)], 3, 1),
        ([make_group(), make_group(cpu_bytes=4 * GIB)], 3, 1),
        ([make_group(cpu_bytes=99 * GIB)], 1, 1),
        ([make_group(items=9, denoise=4)], 3, 1),
        ([make_group(items=1, denoise=4)], 1, 1),
        ([make_group(items=4, denoise=4), make_group(items=1, denoise=4)], 2, 1),
        ([make_group(items=100, denoise=4, done=90, failed=4)], 2, 1),
        ([make_group(items=8, done=8)], 1, 1),
        ([], 1, 1),
    ],
    ids=[
        "small images: a worker for every core",
        "large images: all cores for one worker",
        "both: as the larger needs it",
        "memory is the limit",
        "memory for the larger group",
        "memory for none: one tries",
        "no more workers than batches",
        "one batch",
        "batches of all groups",
        "batches that are left",
        "nothing left",
        "no groups",
    ],
)
def test_workers_of_a_cpu_follow_cores_memory_and_work(
    groups: list[GroupView], planned: int, threads: int
) -> None:
    assert plan(groups, RunOptions()) == [
        DevicePlan(device="cpu", processes=planned, threads=threads)
    ]


def test_what_the_user_says_is_done() -> None:
    options = RunOptions(processes=5, threads=3)
    assert plan([make_group(items=1)], options) == [
        DevicePlan(device="cpu", processes=5, threads=3)
    ]


def test_threads_alone_leave_the_number_of_workers_to_the_cores() -> None:
    assert plan([make_group()], RunOptions(threads=3)) == [
        DevicePlan(device="cpu", processes=2, threads=3)
    ]


def test_each_card_has_one_worker() -> None:
    options = RunOptions(devices=("cuda:0", "cuda:1", "cpu"), processes=2)
    assert plan([make_group()], options) == [
        DevicePlan(device="cuda:0"),
        DevicePlan(device="cuda:1"),
        DevicePlan(device="cpu", processes=2),
    ]


# How a run stands


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """The time of the run."""
    made = FakeClock()
    for module in (local, watching):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=made))
    return made


@pytest.fixture
def task(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClaimedTask:
    """All items of a job of a hundred; the lease lasts as long as the test."""
    monkeypatch.setattr(ledger, "now", FakeClock(1.0))
    items = [make_item(number) for number in range(100)]
    add_job(ledger, FolderStore(tmp_path), items)
    cut = cut_task(ledger, add_worker(ledger), items=100, now=ledger.now())
    assert cut is not None
    return cut


@pytest.fixture
def run(ledger: Ledger, tmp_path: Path, task: ClaimedTask, clock: FakeClock) -> LocalRun:
    """A run without workers."""
    home = Mill(connections=Connections(home=tmp_path), ledger=ledger, store=FolderStore(tmp_path))
    with ledger.read() as connection:
        job = jobs.get(connection, task.job_id)
    return LocalRun(home, job, RunOptions())


def render(ledger: Ledger, task: ClaimedTask, first: int, stop: int) -> None:
    rows = [make_image_row(task, item) for item in range(first, stop)]
    with ledger.write() as connection:
        now = ledger.now()
        tasks.commit(connection, ref_of(task), rows, expires_at=now + 1000, now=now)


def test_before_anything_is_rendered_there_is_no_rate(run: LocalRun, clock: FakeClock) -> None:
    for _ in range(3):
        snapshot = run.look()
        assert (snapshot.images_per_second, snapshot.seconds_left) == (None, None)
        assert (snapshot.job.done, snapshot.running, snapshot.workers) == (0, False, ())
        clock.advance(5)


def test_the_rate_is_images_over_time_and_tells_what_is_left(
    run: LocalRun, ledger: Ledger, task: ClaimedTask, clock: FakeClock
) -> None:
    run.look()
    render(ledger, task, 0, 20)
    clock.advance(10)
    snapshot = run.look()
    assert (snapshot.images_per_second, snapshot.seconds_left) == (2.0, 40.0)


def test_a_rate_over_less_than_a_second_is_not_told(
    run: LocalRun, ledger: Ledger, task: ClaimedTask, clock: FakeClock
) -> None:
    run.look()
    render(ledger, task, 0, 20)
    clock.advance(0.9)
    assert run.look().images_per_second is None


def test_what_was_rendered_before_the_run_does_not_count(
    run: LocalRun, ledger: Ledger, task: ClaimedTask, clock: FakeClock
) -> None:
    render(ledger, task, 0, 50)
    run.look()
    render(ledger, task, 50, 60)
    clock.advance(10)
    snapshot = run.look()
    assert (snapshot.images_per_second, snapshot.seconds_left) == (1.0, 40.0)


def test_the_rate_is_that_of_the_last_half_minute(
    run: LocalRun, ledger: Ledger, task: ClaimedTask, clock: FakeClock
) -> None:
    run.look()
    done = 0
    # Slow at first, then ten times as fast.
    for seconds, images in [(100.0, 1), (100.0, 1), *[(10.0, 10)] * 8]:
        clock.advance(seconds)
        render(ledger, task, done, done + images)
        done += images
        rate = run.look().images_per_second
    assert RATE_WINDOW_SECONDS == 30
    assert rate == pytest.approx(1.0)


def test_a_run_that_stalls_slows_down(
    run: LocalRun, ledger: Ledger, task: ClaimedTask, clock: FakeClock
) -> None:
    run.look()
    render(ledger, task, 0, 10)
    rates = []
    for _ in range(4):
        clock.advance(10)
        rates.append(run.look().images_per_second or 0)
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 1.0
    assert rates[-1] == 0.25


def test_closing_a_run_that_never_started_does_no_harm(run: LocalRun) -> None:
    run.interrupt()
    run.close()
    run.close()
