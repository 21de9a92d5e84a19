"""Several workers on one ledger at once: every item is rendered exactly once."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sqlalchemy as sa

from storage.contract.capability import Mode
from storage.contract.claims import Claim, ClaimedTask
from storage.contract.outcomes import Reason
from storage.contract.states import JobState
from storage.db import cutting, groups, jobs, tables, tasks
from storage.db.engine import Ledger, open_postgres, open_sqlite
from storage.testing.factories import (
    add_groups,
    add_worker,
    make_failure,
    make_image_row,
    ref_of,
)

WORKERS = 4
ITEMS = ((150, 4), (7, 3), (93, 1))


def again(ledger: Ledger) -> Ledger:
    """The same ledger as another process would open it."""
    url = ledger.engine.url
    if url.get_backend_name() == "sqlite":
        return open_sqlite(Path(str(url.database)))
    return open_postgres(url.render_as_string(hide_password=False))


def claim_some(ledger: Ledger, worker_id: int, choose: random.Random) -> ClaimedTask | None:
    """Look and cut in one transaction, as workers do."""
    with ledger.write() as connection:
        candidates = groups.open_groups(connection, limit=9, job_id=None)
        if not candidates:
            return None
        group_id = choose.choice(candidates).group_id
        return cutting.cut(
            connection,
            Claim(group_id=group_id, items=choose.randint(1, 20), mode=Mode.CPU),
            cutting.Lease(worker_id=worker_id, token=choose.getrandbits(62), seconds=60.0),
            now=ledger.now() + 1e6,  # nothing that came back has to rest
        )


def carry_out(ledger: Ledger, task: ClaimedTask, choose: random.Random) -> None:
    """Commit in pieces, and stop half way now and then."""
    for item in range(task.first_item, task.stop_item):
        with ledger.write() as connection:
            fate = choose.random()
            if fate < 0.02:
                tasks.hand_back(connection, ref_of(task), now=1.0)
                return
            if fate < 0.04:
                failure = make_failure(reason=choose.choice(list(Reason)))
                tasks.fail(connection, ref_of(task), failure)
                return
            row = make_image_row(task, item)
            tasks.commit(connection, ref_of(task), [row], expires_at=1e12, now=1.0)


def test_workers_that_claim_at_once_render_every_item_exactly_once(
    ledger: Ledger,
) -> None:
    job = add_groups(ledger, *ITEMS)
    ids = [add_worker(ledger, pid=pid) for pid in range(WORKERS)]
    together = threading.Barrier(WORKERS)

    def work(worker_id: int) -> int:
        own = again(ledger)
        choose = random.Random(worker_id)
        together.wait()
        claimed = 0
        while task := claim_some(own, worker_id, choose):
            claimed += 1
            carry_out(own, task, choose)
        own.close()
        return claimed

    with ThreadPoolExecutor(WORKERS) as pool:
        claimed = sum(pool.map(work, ids))
    # Whoever found nothing left may have stopped before another handed something back.
    leftover = random.Random(0)
    while task := claim_some(ledger, ids[0], leftover):
        claimed += 1
        carry_out(ledger, task, leftover)

    with ledger.read() as connection:
        found = jobs.get(connection, job.id)
        items = connection.execute(sa.select(tables.images.c.item)).scalars().all()
        counters = connection.execute(
            sa.select(
                tables.groups.c.done, tables.groups.c.claimable, tables.groups.c.leased
            ).order_by(tables.groups.c.id)
        ).all()
        tasks_made = connection.execute(sa.select(sa.func.count()).select_from(tables.tasks))
        assert tasks_made.scalar_one() == claimed
    assert sorted(items) == list(range(job.item_count))
    assert [tuple(row) for row in counters] == [(length, 0, 0) for length, _ in ITEMS]
    assert (found.state, found.done, found.failed) == (JobState.FINISHED, job.item_count, 0)
