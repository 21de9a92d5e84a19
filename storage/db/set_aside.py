"""Workers that fail at a group what others then render, and their way back.

What counts is a failed attempt whose items somebody else rendered later. From the third on, the
worker is set aside for that group, each time for twice as long; a task of the group that it
finishes wipes the slate.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.contract.outcomes import Failure, Reason
from storage.contract.states import Entity
from storage.db.tables import set_aside, workers
from storage.db.transitions import record

FAILURES_ALLOWED: Final = 2
FIRST_SECONDS: Final = 60.0
LONGEST_SECONDS: Final = 6 * 3600.0


def seconds_for(failures: int) -> float:
    """How long a worker with so many failures at a group stays away from it."""
    if failures <= FAILURES_ALLOWED:
        return 0.0
    return min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** (failures - FAILURES_ALLOWED - 1))


def shown_up(
    failures: tuple[Failure, ...], first_item: int, stop_item: int, by: str
) -> list[Failure]:
    """The failures of other workers that are shown to be theirs, once `by` rendered a range.

    Each attempt is counted with its first undone item, so once only, however its range was
    halved. A lapse says nothing about a worker's work.
    """
    return [
        one
        for one in failures
        if one.doer != by
        and one.reason is not Reason.LAPSED
        and first_item <= one.first_item < stop_item
    ]


def count(connection: Connection, group_id: int, failure: Failure, *, now: float) -> None:
    """Hold one more failure against the worker; from the third on it is set aside."""
    key = (set_aside.c.group_id == group_id, set_aside.c.worker_name == failure.doer)
    failures = connection.execute(
        sa.update(set_aside)
        .where(*key)
        .values(failures=set_aside.c.failures + 1)
        .returning(set_aside.c.failures)
    ).scalar()
    if failures is None:
        connection.execute(
            sa.insert(set_aside).values(
                group_id=group_id, worker_name=failure.doer, failures=1, until=0.0
            )
        )
        return
    seconds = seconds_for(failures)
    if seconds > 0:
        connection.execute(sa.update(set_aside).where(*key).values(until=now + seconds))
        record(
            connection,
            Entity.WORKER,
            failure.worker_id,
            "set-aside",
            now=now,
            detail=f"group {group_id} for {seconds:.0f} s, after {failures} failures that others"
            f" rendered; the last: {failure.reason}: {failure.detail}",
        )


def forgive(connection: Connection, group_id: int, worker_id: int) -> None:
    """Forget what is held against the worker in this group."""
    name = sa.select(workers.c.name).where(workers.c.id == worker_id).scalar_subquery()
    connection.execute(
        sa.delete(set_aside).where(
            set_aside.c.group_id == group_id, set_aside.c.worker_name == name
        )
    )


def groups_of(connection: Connection, worker_name: str, *, now: float) -> set[int]:
    """The groups this worker must leave alone now."""
    found = connection.execute(
        sa.select(set_aside.c.group_id).where(
            set_aside.c.worker_name == worker_name, set_aside.c.until > now
        )
    )
    return set(found.scalars())


def workers_of(connection: Connection, group_id: int, *, now: float) -> int:
    """How many workers are set aside for this group now."""
    return connection.execute(
        sa.select(sa.func.count()).where(set_aside.c.group_id == group_id, set_aside.c.until > now)
    ).scalar_one()
