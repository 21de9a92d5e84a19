"""Telling that a long load goes on, so that the lease of its task is renewed meanwhile.

A download, the conversion of a checkpoint or the reading of a large component has no steps that
could be told. What can be seen from outside is whether the process works: whether it reads, writes
or computes. One that hangs does none of these, is not told of, and its lease lapses as it should.
Only loads are watched so: while denoising, a device that hangs keeps its process busy waiting.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import psutil

SECONDS: Final = 5.0
"""Between two looks; leases last a minute and more."""

BYTES: Final = 1 << 20
"""Read or written between two looks by a process that works: heartbeats alone are far below."""

CPU_SECONDS: Final = 0.5
"""The same of computing."""


def work_done() -> float:
    """What this process did since it began: 1 for each `BYTES`, 1 for each `CPU_SECONDS`."""
    process = psutil.Process()
    times = process.cpu_times()
    done = (times.user + times.system) / CPU_SECONDS
    with suppress(AttributeError, psutil.Error):  # not told by every system
        counters = process.io_counters()
        named = ("read_bytes", "write_bytes", "read_chars", "write_chars")
        done += sum(getattr(counters, name, 0) for name in named) / BYTES
    return done


@contextmanager
def telling(
    tell: Callable[[], None],
    *,
    seconds: float = SECONDS,
    work: Callable[[], float] = work_done,
) -> Iterator[None]:
    """Call `tell` now and, from another thread, while the block works.

    What `tell` raises there is passed over: the next one that is told from here raises it again.
    """
    tell()
    ended = threading.Event()

    def watch() -> None:
        before = work()
        while not ended.wait(seconds):
            now = work()
            if now - before >= 1:
                with suppress(Exception):
                    tell()
            before = now

    thread = threading.Thread(target=watch, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
