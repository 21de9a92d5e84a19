"""Being told to stop: finish the batch if there is time, or give up at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Final

PARENT_LOOK_SECONDS: Final = 1.0


class Stop:
    """Set once, by a signal, a lost parent or an operator; read by loop and renderer."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._event = threading.Event()
        self._deadline: float | None = None
        self.why = ""

    def drain(self, grace: float, why: str) -> None:
        """Claim nothing more; what is under way has `grace` seconds to reach a batch's end."""
        deadline = self._clock() + grace
        if self._deadline is None or deadline < self._deadline:
            self._deadline, self.why = deadline, why
        self._event.set()

    @property
    def requested(self) -> bool:
        """Whether to stop at the next border of a batch."""
        return self._event.is_set()

    @property
    def overdue(self) -> bool:
        """Whether to stop in the middle of a batch."""
        return self._deadline is not None and self._clock() >= self._deadline

    def wait(self, seconds: float) -> bool:
        """Sleep, but not longer than until asked to stop; whether that is so."""
        return self._event.wait(seconds)


def obey_signals(stop: Stop, grace: float) -> None:
    """SIGTERM drains, SIGQUIT stops at once. SIGINT, sent to all by a terminal, is the parent's."""

    def drain(_number: int, _frame: FrameType | None) -> None:
        stop.drain(grace, "asked to drain")

    def at_once(_number: int, _frame: FrameType | None) -> None:
        stop.drain(0.0, "asked to stop at once")

    signal.signal(signal.SIGTERM, drain)
    signal.signal(signal.SIGQUIT, at_once)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def watch_parent(stop: Stop, grace: float) -> None:
    """Drain when standard input ends: the parent held its other end, and is gone."""
    if sys.stdin is None or sys.stdin.isatty():
        return
    descriptor = sys.stdin.fileno()

    def wait() -> None:
        while os.read(descriptor, 4096):
            pass
        stop.drain(grace, "the parent process is gone")

    threading.Thread(target=wait, name="parent", daemon=True).start()


def watch_parent_process(stop: Stop, grace: float) -> None:
    """Drain when the parent process is another one: ours has died."""
    parent = os.getppid()

    def wait() -> None:
        while os.getppid() == parent:
            if stop.wait(PARENT_LOOK_SECONDS):
                return
        stop.drain(grace, "the parent process is gone")

    threading.Thread(target=wait, name="parent", daemon=True).start()
