"""Seconds by phase."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Times phases; what is timed within another phase counts there only once, as its own."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._phase: str | None = None
        self._since = 0.0

    @contextmanager
    def timing(self, phase: str) -> Iterator[None]:
        """Time a block as `phase`."""
        outer = self._switch(phase)
        try:
            yield
        finally:
            self._switch(outer)

    @property
    def rendering(self) -> float:
        """Seconds of all phases but loading."""
        return sum(seconds for phase, seconds in self.seconds.items() if phase != LOAD)

    def _switch(self, phase: str | None) -> str | None:
        now = time.monotonic()
        if self._phase is not None:
            self.seconds[self._phase] += now - self._since
        outer, self._phase, self._since = self._phase, phase, now
        return outer


LOAD = "load"
