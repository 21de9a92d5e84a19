"""The time of a database server, told without asking it each time."""

from __future__ import annotations

import threading
import time
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from storage.db.ledger import READ_ONLY

_REFRESH_SECONDS: Final = 60.0
"""Two quartz clocks part by some milliseconds in this time."""

_ASK = sa.text("SELECT extract(epoch FROM clock_timestamp())::double precision")


def _uptime() -> float:
    """Seconds that also count while the machine sleeps, where the system has such a clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class ServerClock:
    """The server's clock, as its measured distance from this machine's.

    The local wall clock is not looked at: it may be wrong, and may be set while this runs.
    """

    def __init__(self, engine: Engine) -> None:
        self._reader = engine.execution_options(**{READ_ONLY: True})
        self._lock = threading.Lock()
        self._ahead: float | None = None
        self._due = 0.0

    def __call__(self) -> float:
        """The server's time now; raises the driver's error if it was never reached."""
        if self._ahead is None:
            with self._lock:
                if self._ahead is None:
                    self._measure()
        elif _uptime() > self._due and self._lock.acquire(blocking=False):
            try:
                self._measure()
            except sa.exc.DBAPIError:  # what was measured before is good for a long while
                self._due = _uptime() + 1.0
            finally:
                self._lock.release()
        assert self._ahead is not None  # noqa: S101 - for the type checker
        return _uptime() + self._ahead

    def _measure(self) -> None:
        with self._reader.begin() as connection:
            asked = _uptime()
            told = connection.execute(_ASK).scalar_one()
            answered = _uptime()
        self._ahead = told - (asked + answered) / 2
        self._due = answered + _REFRESH_SECONDS
