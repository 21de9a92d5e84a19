"""Workers: registered, heard from, gone."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from storage.contract.claims import Progress
from storage.contract.errors import StaleTransition
from storage.contract.states import Entity, WorkerState
from storage.db import tables, workers
from storage.db.engine import Ledger
from storage.db.transitions import advance
from storage.db.workers import Worker
from storage.testing.factories import add_groups, add_worker, cut_task, make_capability


def present(ledger: Ledger, *, job_id: int | None = None) -> list[Worker]:
    with ledger.read() as connection:
        return list(workers.present(connection, job_id=job_id))


def test_a_registered_worker_is_live_and_known_with_all_it_has(ledger: Ledger) -> None:
    capability = make_capability(device="cuda:1", vram_bytes=24 << 30, host="node7")
    with ledger.write() as connection:
        worker_id = workers.register(
            connection, capability, name="node7/cuda:1", pid=42, process_started_at=3.5, now=9.0
        )
    assert present(ledger) == [
        Worker(
            id=worker_id,
            name="node7/cuda:1",
            state=WorkerState.LIVE,
            host="node7",
            pid=42,
            process_started_at=3.5,
            capability=capability,
            progress=Progress(),
            started_at=9.0,
            seen_at=9.0,
        )
    ]
    with ledger.read() as connection:
        columns = (tables.workers.c.device, tables.workers.c.vram_class)
        assert tuple(connection.execute(sa.select(*columns)).one()) == ("cuda:1", "gpu24")


def test_a_beat_says_when_and_what_and_touches_no_other_worker(ledger: Ledger) -> None:
    first, second = add_worker(ledger, pid=1), add_worker(ledger, pid=2)
    progress = Progress(phase="denoise", job="shapes", task_id=3, batch=1, batches=2, step=4)
    with ledger.write() as connection:
        workers.beat(connection, first, progress, now=50.0)
    assert [(w.id, w.seen_at, w.progress) for w in present(ledger)] == [
        (first, 50.0, progress),
        (second, 1.0, Progress()),
    ]


def test_a_worker_leaves_once_and_is_present_no_more(ledger: Ledger) -> None:
    worker_id = add_worker(ledger)
    with ledger.write() as connection:
        advance(connection, Entity.WORKER, worker_id, "drain", now=2.0)
    assert [worker.state for worker in present(ledger)] == [WorkerState.DRAINING]

    with ledger.write() as connection:
        workers.leave(connection, worker_id, now=3.0, detail="told to")
    assert present(ledger) == []
    with ledger.write() as connection, pytest.raises(StaleTransition):
        workers.leave(connection, worker_id, now=4.0)


def test_the_workers_of_a_job_are_those_that_ever_took_a_task_of_it(ledger: Ledger) -> None:
    first, second = add_worker(ledger, pid=1), add_worker(ledger, pid=2)
    add_groups(ledger, (9, 1))
    add_groups(ledger, (9, 1), name="other")
    for _ in range(2):
        cut_task(ledger, second, group_id=1)
    cut_task(ledger, first, group_id=2)
    with ledger.write() as connection:
        workers.leave(connection, second, now=2.0)
    assert [worker.id for worker in present(ledger, job_id=1)] == [second]
    assert [worker.id for worker in present(ledger, job_id=2)] == [first]
    assert present(ledger, job_id=3) == []


@pytest.mark.parametrize(
    "other",
    [{"host": "elsewhere"}, {"pid": 8}, {"process_started_at": 1.25}],
    ids=lambda other: next(iter(other)),
)
def test_a_process_is_told_from_a_later_one_with_the_same_number(
    ledger: Ledger, other: dict[str, object]
) -> None:
    worker_id = add_worker(ledger, pid=7)
    process: dict[str, object] = {"host": "testhost", "pid": 7, "process_started_at": 1.0}
    with ledger.read() as connection:
        found = workers.find_process(connection, **process)  # type: ignore[arg-type]
        missed = workers.find_process(connection, **(process | other))  # type: ignore[arg-type]
    assert found
    assert found.id == worker_id
    assert missed is None
