"""How a job stands, moment by moment: for a live display."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from storage.db import jobs, workers
from storage.db.engine import Ledger
from storage.db.jobs import Job
from storage.db.workers import Worker

RATE_WINDOW_SECONDS: Final = 30.0


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """How a run stands."""

    job: Job
    workers: tuple[Worker, ...]
    images_per_second: float | None
    seconds_left: float | None
    waiting: str | None = None  #: why nothing is rendered yet
    running: bool
    failure: str | None = None  #: what ended the workers before the job was done


class Rate:
    """Images per second over the last half minute."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or time.monotonic
        self._ended: deque[tuple[float, int]] = deque()

    def after(self, ended: int) -> float | None:
        """The rate when so many items have ended by now; None while it cannot be told."""
        now = self._clock()
        if not self._ended or self._ended[-1][1] != ended:
            self._ended.append((now, ended))
        while len(self._ended) > 2 and self._ended[1][0] < now - RATE_WINDOW_SECONDS:
            self._ended.popleft()
        (since, then) = self._ended[0]
        if ended == then or now - since < 1:
            return None
        return (ended - then) / (now - since)


class JobWatch:
    """A job that others render, seen through the ledger."""

    def __init__(self, ledger: Ledger, job_id: int) -> None:
        self._ledger = ledger
        self._job_id = job_id
        self._rate = Rate()

    def look(self) -> Snapshot:
        """How it stands now."""
        with self._ledger.read() as connection:
            job = jobs.get(connection, self._job_id)
            at_work = [w for w in workers.present(connection) if w.progress.job == job.name]
        rate = self._rate.after(job.done + job.failed)
        return Snapshot(
            job=job,
            workers=tuple(sorted(at_work, key=lambda worker: worker.name)),
            images_per_second=rate,
            seconds_left=job.remaining / rate if rate else None,
            waiting=None if at_work or job.ended else "no worker is at it; see rendermill why",
            running=not job.ended,
        )
