from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.chaos import faults, run
from tests.chaos.checks import check_all
from tests.chaos.far import far_machine
from tests.chaos.faults import Fault, Victim
from tests.chaos.wreck import Wreck

pytestmark = pytest.mark.slow

PART = 200
"""Items of a job that lasts for three faults."""


@pytest.mark.parametrize("broker", ["rabbitmq", "redis"])
def test_a_blow_at_every_point_loses_nothing(wreck: Wreck, seed: int) -> None:
    wreck.point_seconds = 60.0  # every point is got to, sooner or later
    run.start_workers(wreck, 0.1)
    wreck.farm.wait_until(lambda: _state(wreck, "small/cpu") == "live", "a worker")
    for fault in faults.at_acks():
        wreck.spare_tickets()
        assert wreck.strike(fault), fault
    plan = faults.every_other_point(seed)
    with ThreadPoolExecutor() as threads:  # tickets are issued as soon as there is a job
        submitted = threads.submit(run.submit, wreck, PART, "part-0")
        _strike_all(wreck, plan[:3])
        submitted.result()
    parts = range(1, len(plan) // 3)
    for part in parts:
        wreck.await_services()
        run.submit(wreck, PART, f"part-{part}")
        _strike_all(wreck, plan[3 * part : 3 * part + 3])
    wreck.mend()
    run.settle(wreck, PART * (1 + len(parts)))
    for part in (0, *parts):
        check_all(wreck.farm, f"part-{part}", items=PART)


def _strike_all(wreck: Wreck, plan: list[Fault]) -> None:
    for fault in plan:
        print(fault)
        assert wreck.strike(fault), fault


def test_a_worker_that_slept_past_its_lease_leaves_its_items_to_others(wreck: Wreck) -> None:
    wreck.keep("one", lambda: wreck.farm.start_worker("one", 8.0, seconds=0.05))
    run.submit(wreck, 200)

    assert wreck.strike(Fault(victim=Victim.FROZEN, point="before-commit"))
    wreck.keep("two", lambda: wreck.farm.start_worker("two", 8.0, seconds=0.01))
    wreck.farm.wait_until(lambda: wreck.outcomes() == 200, "what the sleeper held")
    wreck.mend()
    wreck.farm.wait_until(lambda: "lease_lost" in _log(wreck, "one"), "the sleeper to notice")

    check_all(wreck.farm, run.JOB, items=200)


def test_a_worker_cut_off_from_the_network_is_taken_for_gone_and_comes_back(wreck: Wreck) -> None:
    with far_machine(wreck.services.ports) as machine:
        environment = machine.seen_from_there(wreck.services.environment)
        wreck.farm.start_worker(
            "far", 8.0, seconds=0.05, through=machine.through, environment=environment
        )
        run.submit(wreck, 300)
        wreck.farm.wait_until(lambda: (wreck.outcomes() or 0) > 0, "the far machine's first")
        machine.pull_the_cable()
        wreck.farm.start_worker("near", 8.0, seconds=0.01)
        wreck.farm.wait_until(lambda: wreck.outcomes() == 300, "what the far machine held")
        wreck.farm.wait_until(lambda: _state(wreck, "far/cpu") == "gone", "it to be missed")
        wreck.farm.kill("near")
        machine.plug_it_in()
        wreck.farm.wait_until(lambda: _state(wreck, "far/cpu") != "gone", "it to be back")
        run.submit(wreck, 20, "more")
        wreck.farm.wait_until(lambda: wreck.farm.outcomes("more") == 20, "the far machine's work")
        wreck.farm.kill("far")
    check_all(wreck.farm, run.JOB, items=300)
    check_all(wreck.farm, "more", items=20)


def test_a_worker_whose_disk_is_full_goes_on(wreck: Wreck) -> None:
    home = wreck.farm.folder / "one"
    with _small_disk(home), ExitStack() as full:
        wreck.keep("one", lambda: wreck.farm.start_worker("one", 8.0, seconds=0.02))
        run.submit(wreck, 400)
        wreck.farm.wait_until(lambda: (wreck.outcomes() or 0) > 0, "the first outcome")
        full.enter_context(_kept_full(home / "filler"))
        at = wreck.outcomes() or 0
        wreck.farm.wait_until(lambda: (wreck.outcomes() or 0) > at, "work on a full disk")
        assert wreck.strike(Fault(victim=Victim.CHILD, point="before-claim"))
        wreck.farm.wait_until(lambda: wreck.outcomes() == 400, "work of one born on a full disk")
        check_all(wreck.farm, run.JOB, items=400)
        wreck.farm.kill("one")


def test_losing_every_ticket_costs_seconds(wreck: Wreck) -> None:
    wreck.farm.start_worker("one", 8.0)
    _render(wreck, "warm-up")
    calm = [_render(wreck, f"calm-{turn}") for turn in range(3)]
    lossy = []
    for turn in range(3):
        with wreck.points.losing_tickets() as lost:
            run.submit(wreck, 20, f"lossy-{turn}")
            wreck.farm.wait_until(lost, "tickets to be lost")
        lossy.append(_seconds(wreck, f"lossy-{turn}"))
    print(f"undisturbed {calm}, first tickets lost {lossy}")
    assert sorted(lossy)[1] - sorted(calm)[1] < 5.0


def _render(wreck: Wreck, job: str) -> float:
    run.submit(wreck, 20, job)
    return _seconds(wreck, job)


def _seconds(wreck: Wreck, job: str) -> float:
    """How long the job took from its submission to its end, by the ledger's clock."""

    def took() -> list[float | None]:
        asked = "SELECT finished_at - created_at FROM jobs WHERE name = :job"
        return [row[0] for row in wreck.farm.query(asked, job=job)]

    wreck.farm.wait_until(lambda: took()[0] is not None, "the job")
    (seconds,) = took()
    assert seconds is not None
    return round(seconds, 2)


@contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    folder.mkdir()
    made = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    tried = subprocess.run(made, capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"cannot mount a small disk: {tried.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def _kept_full(file: Path) -> Iterator[None]:
    """Take all the space there is, and all that is set free."""
    over = threading.Event()

    def fill() -> None:
        with open(file, "wb", buffering=0) as filler:
            while not over.is_set():
                try:
                    filler.write(bytes(4096))
                except OSError:
                    over.wait(0.005)

    thread = threading.Thread(target=fill)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _log(wreck: Wreck, name: str) -> str:
    logs = (wreck.farm.folder / name / "logs").glob("*.log")
    return "".join(log.read_text(errors="replace") for log in logs)


def _state(wreck: Wreck, worker: str) -> str | None:
    found = wreck.farm.query(
        "SELECT state FROM workers WHERE name = :name ORDER BY id DESC LIMIT 1", name=worker
    )
    return found[0].state if found else None
