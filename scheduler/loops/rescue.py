"""Ending leases that have run out, and those of workers that are known to be gone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from storage.contract.errors import LeaseLost, StaleTransition
from storage.contract.outcomes import Failure, Reason
from storage.db import tasks, workers
from storage.db.engine import Ledger

SILENT_SECONDS: Final = 60.0
"""A worker beats once a second; one not heard from for this long is taken for gone."""

IsAlive = Callable[[workers.Worker], bool | None]
"""Whether a worker's process lives; None if that cannot be known from here."""


class Rescued(msgspec.Struct, frozen=True, kw_only=True):
    """What one pass of the rescue did."""

    tasks: int = 0
    items: int = 0
    workers: int = 0


def rescue(ledger: Ledger, *, is_alive: IsAlive) -> Rescued:
    """One pass: items of lapsed leases go back to their groups; gone workers are signed off."""
    with ledger.read() as connection:
        now = ledger.now()
        gone = [one for one in workers.present(connection) if _gone(one, is_alive, now)]
        overdue = tasks.expired(connection, now=now)
    lapsed: list[int] = []  # items of each task
    for worker in gone:
        lapsed += _bury(ledger, worker, now)
    for ref, worker_id in overdue:
        lapsed += _lapse(ledger, ref, worker_id, now)
    return Rescued(tasks=len(lapsed), items=sum(lapsed), workers=len(gone))


def _gone(worker: workers.Worker, is_alive: IsAlive, now: float) -> bool:
    alive = is_alive(worker)
    if alive is None:
        return now - worker.seen_at > SILENT_SECONDS
    return not alive


def _bury(ledger: Ledger, worker: workers.Worker, now: float) -> list[int]:
    """Sign a worker off, and end all it held; how many items each task gave back."""
    why = f"the process of {worker.name} is gone"
    failure = Failure(reason=Reason.LAPSED, detail=why, worker_id=worker.id, at=now)
    with ledger.write() as connection:
        with suppress(StaleTransition):  # it signed off by itself
            workers.leave(connection, worker.id, now=now, detail=why)
        return tasks.end_all(connection, worker.id, now=now, failure=failure)


def _lapse(ledger: Ledger, ref: tasks.TaskRef, worker_id: int, now: float) -> list[int]:
    """End one task, in a transaction of its own so that it holds up nobody."""
    why = "the lease ran out"
    failure = Failure(reason=Reason.LAPSED, detail=why, worker_id=worker_id, at=now)
    try:
        with ledger.write() as connection:
            return [tasks.lapse(connection, ref, now=now, failure=failure, overdue=True)]
    except LeaseLost:
        return []  # it ended by itself, or was renewed, between the look and the lock
