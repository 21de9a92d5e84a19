"""Saying that the worker lives, renewing its lease by progress, and hearing what users want.

A thread of its own: the renderer holds the main one for minutes. A task that makes no progress
is not renewed, however alive the process is; so a hang ends with the lease.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa
import structlog

from storage.contract.claims import ClaimedTask, Progress
from storage.contract.errors import Interrupted, LeaseLost, LedgerUnavailable
from storage.contract.states import JobState, WorkerState
from storage.db import tables, tasks, workers
from storage.db.engine import Ledger
from storage.db.tasks import TaskRef
from workers.rest import ASLEEP, asleep, note_of
from workers.stopping import Stop

BEAT_SECONDS: Final = 1.0
"""On one machine: people watch. A server that has thousands of workers is spared."""

FARM_BEAT_SECONDS: Final = 3.0

RENEWALS: Final = 4
"""How often a lease is renewed while it lasts; each beat would be many writes for nothing."""

log = structlog.get_logger()


class Heartbeat:
    """Beats until `stop`; the renderer reports through `tell`."""

    def __init__(
        self,
        ledger: Ledger,
        worker_id: int,
        stop: Stop,
        *,
        seconds: float = BEAT_SECONDS,
        sleep: str | None = None,
    ) -> None:
        """Beat every so many `seconds`; `sleep` are hours of rest, like "22:00-06:00"."""
        self._ledger = ledger
        self._seconds = seconds
        self._sleep = sleep
        self._resting = False
        self._worker_id = worker_id
        self._stop = stop
        self._progress = Progress()
        self._task: ClaimedTask | None = None
        self._waiting: Sequence[ClaimedTask] = ()
        self._told = 0  #: how often the renderer reported
        self._heard = 0  #: how often it had when the lease was last renewed
        self._renew_from = 0.0  #: not before this time
        # Both name the task they are about: a beat may hear of one that has ended meanwhile.
        self._lost: ClaimedTask | None = None
        self._stopped: ClaimedTask | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat, once before this returns: the worker may have to rest."""
        self.beat()
        self._thread.start()

    def end(self) -> None:
        """Stop beating; returns when the last beat is through."""
        self._ended.set()
        self._thread.join()

    def take(self, task: ClaimedTask, *, waiting: Sequence[ClaimedTask] = ()) -> None:
        """A task begins; those `waiting` for their turn after it are to be kept too."""
        self._renew_from = 0.0
        self._waiting = tuple(waiting)
        self._task = task

    def release(self) -> None:
        """The task is over."""
        self._task = None
        self._waiting = ()
        self._progress = Progress()

    def tell(self, progress: Progress) -> None:
        """What the renderer does now; raises if the task must be given up at once."""
        self._progress = progress
        self._told += 1
        if self._lease_lost:
            raise LeaseLost
        if self._stop.overdue:
            raise Interrupted(f"stopped within a batch: {self._stop.why}")

    @property
    def resting(self) -> bool:
        """Whether to claim nothing: drained by an operator, or asleep."""
        return self._resting

    @property
    def stop_after_batch(self) -> bool:
        """Whether the task should end at the next border of a batch."""
        stopped = self._stopped is not None and self._stopped is self._task
        return self._stop.requested or stopped or self._lease_lost

    @property
    def _lease_lost(self) -> bool:
        return self._lost is not None and self._lost is self._task

    def beat(self) -> None:
        """Beat once; an unreachable ledger is logged, and tried again with the next beat."""
        task = self._task
        try:
            self._beat(task)
        except LeaseLost:
            self._lost = task
        except LedgerUnavailable as error:
            log.warning("the ledger cannot be reached", action="beat_failed", error=str(error))

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            self.beat()

    def _beat(self, task: ClaimedTask | None) -> None:
        told, waiting = self._told, self._waiting
        now = self._ledger.now()
        with self._ledger.write() as connection:
            state = workers.beat(connection, self._worker_id, self._progress, now=now)
            if self._sleep is not None:
                state = self._keep_hours(connection, self._sleep, state, now)
            self._resting = state == WorkerState.DRAINING
            if task is None:
                return
            if told != self._heard and now >= self._renew_from:
                expires_at = now + task.lease_seconds
                tasks.renew(connection, _ref(task), expires_at=expires_at)
                later = [_ref(one) for one in waiting]
                tasks.renew_waiting(connection, later, expires_at=expires_at)
                self._heard = told
                self._renew_from = now + task.lease_seconds / RENEWALS
            job_state = connection.execute(
                sa.select(tables.jobs.c.state).where(tables.jobs.c.id == task.job_id)
            ).scalar_one()
        self._stopped = task if job_state in (JobState.PAUSED, JobState.CANCELLED) else None

    def _keep_hours(self, connection: sa.Connection, hours: str, state: str, now: float) -> str:
        """Go to sleep or wake up when it is time; what an operator drained stays so."""
        clock = time.localtime()
        sleeps = asleep(hours, clock.tm_hour * 60 + clock.tm_min)
        if sleeps and state == WorkerState.LIVE:
            workers.drain(connection, self._worker_id, now=now, note=note_of(hours))
            return WorkerState.DRAINING
        if not sleeps and state == WorkerState.DRAINING:
            note = workers.find(connection, str(self._worker_id)).note or ""
            if note.startswith(ASLEEP):
                workers.wake(connection, self._worker_id, now=now)
                return WorkerState.LIVE
        return state


def _ref(task: ClaimedTask) -> TaskRef:
    return TaskRef(task.task_id, task.lease)
