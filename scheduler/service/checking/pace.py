"""No more objects a second than are allowed: a check must not take the store from workers."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """Lets `rate` objects through a second, evenly; safe for one thread."""

    def __init__(
        self,
        rate: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = rate
        self._clock = clock
        self._wait = wait
        self._next = 0.0

    def take(self, count: int) -> None:
        """Wait until that many more may be looked at."""
        if not self._rate or not count:
            return
        now = self._clock()
        begins = max(self._next, now)
        self._next = begins + count / self._rate
        if begins > now:
            self._wait(begins - now)
