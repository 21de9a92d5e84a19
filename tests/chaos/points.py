"""Named points in the farm's processes, where a test can hold one of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

INSIDE: Final = Path(__file__).parent / "inside"

POINTS: Final = (
    *("before-claim", "within-claim", "after-claim"),
    *("before-put", "after-put"),
    *("before-commit", "within-commit", "after-commit"),
    *("before-ack", "after-ack"),
    *("before-publish", "after-publish"),
)
"""``within``: the statements are through, the transaction is not committed. ``ack`` is reached
by Celery's parent process, ``publish`` by the scheduler, all others by Celery's child."""


class Points:
    """The side of the test: arms points, and lets go who is held there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("armed", "held"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    @property
    def environment(self) -> dict[str, str]:
        """What makes a Python process stop at the points."""
        path = [str(INSIDE), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {"CHAOS_POINTS": str(self.folder), "PYTHONPATH": os.pathsep.join(path)}

    @contextmanager
    def hold(
        self, point: str, seconds: float, while_waiting: Callable[[], None] = lambda: None
    ) -> Iterator[int | None]:
        """The process that is held at the point for as long as the block lasts.

        None if nobody gets there in time.
        """
        armed = self.folder / "armed" / point
        armed.touch()
        deadline = time.monotonic() + seconds
        while armed.exists() and time.monotonic() < deadline:
            while_waiting()
            time.sleep(0.01)
        armed.unlink(missing_ok=True)
        held = list((self.folder / "held").glob(f"{point}.*"))
        try:
            yield int(held[0].suffix[1:]) if held else None
        finally:
            for one in held:
                one.unlink(missing_ok=True)

    @contextmanager
    def losing_tickets(self) -> Iterator[Callable[[], bool]]:
        """The broker takes every ticket and keeps none; gives a look at whether it lost any."""
        lossy, lost = self.folder / "lossy", self.folder / "lost"
        lost.unlink(missing_ok=True)
        lossy.touch()
        try:
            yield lost.exists
        finally:
            lossy.unlink()
