from __future__ import annotations

import os
import subprocess
import sys

from storage.testing.factories import FakeClock
from workers.stopping import Stop


def test_a_stop_is_overdue_only_after_its_grace() -> None:
    clock = FakeClock()
    stop = Stop(clock)
    assert not stop.requested

    stop.drain(30, "test")

    assert stop.requested
    assert not stop.overdue
    clock.advance(30)
    assert stop.overdue


def test_a_second_request_can_only_shorten_the_grace() -> None:
    clock = FakeClock()
    stop = Stop(clock)

    stop.drain(5, "soon")
    stop.drain(60, "later")

    clock.advance(5)
    assert stop.overdue
    assert stop.why == "soon"


def test_waiting_ends_at_once_when_asked_to_stop() -> None:
    stop = Stop()
    stop.drain(0, "test")

    assert stop.wait(3600)


def test_a_process_whose_parent_closes_the_pipe_is_asked_to_drain() -> None:
    program = (
        "from workers.stopping import Stop, watch_parent\n"
        "stop = Stop(); watch_parent(stop, 7)\n"
        "print('watching', flush=True)\n"
        "print(stop.wait(60), stop.why)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdin is not None
    assert child.stdout.readline() == "watching\n"

    child.stdin.close()

    assert child.stdout.read() == "True the parent process is gone\n"
    child.stdout.close()
    assert child.wait() == 0


def test_signals_drain_or_stop_at_once_and_ctrl_c_is_the_parents() -> None:
    program = (
        "import os, signal\n"
        "from workers.stopping import Stop, obey_signals\n"
        "stop = Stop(); obey_signals(stop, 60)\n"
        "os.kill(os.getpid(), signal.SIGINT); print(stop.requested)\n"
        "os.kill(os.getpid(), signal.SIGTERM); print(stop.requested, stop.overdue)\n"
        "os.kill(os.getpid(), signal.SIGQUIT); print(stop.overdue)"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ
    )

    assert done.stdout.splitlines() == ["False", "True False", "True"]
