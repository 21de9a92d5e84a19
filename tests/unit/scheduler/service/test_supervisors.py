"""Supervisors as seen by who starts them: small programs in their place."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scheduler.service.supervisors import DevicePlan, Orders, Supervisors

WAIT = "import sys; sys.stdin.read()"
PLAN = DevicePlan(device="cpu", processes=2, threads=3)

Run = Callable[..., Supervisors]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Starts a supervisor for each of these programs."""
    made: list[Supervisors] = []

    def started(*programs: str) -> Supervisors:
        supervisors = Supervisors(Orders(home=tmp_path, grace=1.0))
        made.append(supervisors)
        for program in programs:
            command = [sys.executable, "-c", program]
            monkeypatch.setattr(supervisors, "_command", lambda _plan, command=command: command)
            supervisors.start(PLAN)
        return supervisors

    yield started
    for supervisors in made:
        supervisors.close()


def test_a_supervisor_is_told_its_orders_and_only_those_that_are_given(tmp_path: Path) -> None:
    orders = Orders(home=tmp_path, vram_limit=8, vram_class="gpu8", name="one")

    command = Supervisors(orders)._command(PLAN)

    assert command[:4] == [sys.executable, "-m", "workers", "supervise"]
    told = dict(zip(command[4::2], command[5::2], strict=True))
    assert told == {
        "--home": str(tmp_path),
        "--device": "cpu",
        "--processes": "2",
        "--threads": "3",
        "--grace": "30.0",
        "--renderer": "diffusers",
        "--fake-seconds": "0.0",
        "--vram-limit": "8",
        "--vram-class": "gpu8",
        "--name": "one",
    }


def test_what_a_supervisor_says_is_heard_and_noise_is_passed_over(run: Run) -> None:
    supervisors = run(
        """print('noise'); print('{"event": "started", "device": "cpu", "pid": 7}')"""
    )
    supervisors.close()

    assert [(told.event, told.pid) for told in supervisors.hear()] == [("started", 7)]
    assert list(supervisors.hear()) == []


def test_it_runs_while_any_of_them_does(run: Run) -> None:
    supervisors = run("pass", WAIT)
    for _ in range(100):
        supervisors.wait(0.1)
        assert supervisors.running

    supervisors.close()

    assert not supervisors.running


def test_waiting_is_for_one_that_still_runs(run: Run) -> None:
    supervisors = run("pass", WAIT)
    supervisors._processes[0].wait()

    before = time.monotonic()
    supervisors.wait(0.3)

    assert time.monotonic() - before >= 0.3, "else the caller would spin"


@pytest.mark.parametrize(("at_once", "name"), [(False, "SIGTERM"), (True, "SIGQUIT")])
def test_they_are_asked_to_drain_or_to_stop_at_once(run: Run, at_once: bool, name: str) -> None:
    program = (
        "import json, signal, sys\n"
        "def heard(number, _frame):\n"
        "    print(json.dumps({'event': signal.Signals(number).name}), flush=True); sys.exit()\n"
        "signal.signal(signal.SIGTERM, heard); signal.signal(signal.SIGQUIT, heard)\n"
        "print(json.dumps({'event': 'ready'}), flush=True); sys.stdin.read()"
    )
    supervisors = run(program)
    heard: list[str] = []
    while "ready" not in heard:
        supervisors.wait(0.05)
        heard += [told.event for told in supervisors.hear()]

    supervisors.interrupt(at_once=at_once)
    supervisors._processes[0].wait(30)
    supervisors.close()

    assert [told.event for told in supervisors.hear()] == [name]


def test_one_that_does_not_end_is_killed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scheduler.service.supervisors.END_SECONDS", -0.9)
    supervisors = run("import time; time.sleep(600)")

    supervisors.close()

    assert supervisors._processes[0].returncode == -signal.SIGKILL
