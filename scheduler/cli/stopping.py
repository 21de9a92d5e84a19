"""How lasting commands hear that they are to end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType


def stop_on_signals(react: Callable[[bool], None] = lambda _again: None) -> threading.Event:
    """An event that SIGINT, SIGTERM and SIGQUIT set.

    `react` hears each, and whether to make haste: it is not the first, or a SIGQUIT.
    """
    stop = threading.Event()

    def heard(number: int, _frame: FrameType | None) -> None:
        again = stop.is_set() or number == signal.SIGQUIT
        stop.set()
        react(again)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, heard)
    return stop
