from __future__ import annotations

from storage.db import jobs
from storage.db.engine import Ledger
from storage.objects.memory import MemoryStore
from storage.testing.factories import add_job, make_capability
from workers.claiming import Claimer
from workers.execute import Tools
from workers.loop import work
from workers.stopping import Stop


def test_a_worker_works_until_there_is_nothing_left_to_claim(
    ledger: Ledger, store: MemoryStore, tools: Tools, stop: Stop
) -> None:
    job = add_job(ledger, store)
    claimer = Claimer(ledger, tools.worker_id, make_capability(), job_id=job.id)

    work(tools, claimer, stop, leave=lambda: True)

    with ledger.read() as connection:
        assert jobs.get(connection, job.id).ended


def test_a_worker_that_is_told_to_stop_claims_nothing_more(
    ledger: Ledger, store: MemoryStore, tools: Tools, stop: Stop
) -> None:
    job = add_job(ledger, store)
    stop.drain(0, "test")
    claimer = Claimer(ledger, tools.worker_id, make_capability(), job_id=None)

    work(tools, claimer, stop, leave=lambda: True)

    with ledger.read() as connection:
        assert jobs.get(connection, job.id).done == 0
