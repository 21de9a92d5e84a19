"""Images rendered again: rows go, items can be claimed, counters stay right."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from storage.contract.claims import ClaimedTask
from storage.contract.states import JobState
from storage.db import checks, jobs, marks, putting_back, steering, tasks
from storage.db.engine import Ledger
from storage.db.tables import collected, groups, image_tags, images, search_queue
from storage.objects.memory import MemoryStore
from storage.testing.factories import add_job, cut_task, make_image_row, make_item, ref_of

ITEMS = 8


@pytest.fixture
def task(ledger: Ledger, store: MemoryStore, worker_id: int) -> ClaimedTask:
    """The task of a job of eight items, all rendered but the last."""
    add_job(ledger, store, [make_item(number) for number in range(ITEMS)])
    cut = cut_task(ledger, worker_id, items=ITEMS)
    assert cut is not None
    commit(ledger, cut, range(ITEMS - 1))
    return cut


def commit(ledger: Ledger, task: ClaimedTask, items: range) -> None:
    rows = [make_image_row(task, n, sha256=f"hash {n}", tags='{"kind": "x"}') for n in items]
    with ledger.write() as connection:
        tasks.commit(connection, ref_of(task), rows, expires_at=99.0, now=2.0)


def render_again(ledger: Ledger, **wanted: str | None) -> list[int]:
    with ledger.write() as connection:
        by_item = {int(name[1:]): sha256 for name, sha256 in wanted.items()}
        return putting_back.render_again(connection, 1, by_item, now=3.0)


def counters(ledger: Ledger) -> tuple[int, int, int, int, str]:
    """Of the group done, claimable, leased; of the job done and its state."""
    with ledger.read() as connection:
        group = connection.execute(sa.select(groups)).one()
        job = jobs.get(connection, 1)
    return group.done, group.claimable, group.leased, job.done, job.state


def test_items_go_back_with_their_rows_and_tags_gone(ledger: Ledger, task: ClaimedTask) -> None:
    commit(ledger, task, range(ITEMS - 1, ITEMS))
    assert counters(ledger) == (8, 0, 0, 8, JobState.FINISHED)
    with ledger.write() as connection:
        marks.collect(connection, [(1, 2), (1, 4)], "best", now=2.5)

    assert render_again(ledger, i2="hash 2", i3="hash 3", i6="hash 6") == [2, 3, 6]

    assert counters(ledger) == (5, 3, 0, 5, JobState.OPEN)
    with ledger.read() as connection:
        for table in (images, image_tags):
            items = connection.execute(sa.select(table.c.item).order_by(table.c.item)).scalars()
            assert list(items) == [0, 1, 4, 5, 7]
        best = connection.execute(sa.select(collected.c.item)).scalars().all()
        noted = connection.execute(sa.select(search_queue)).all()
    assert best == [4]
    assert (noted[-1].first_item, noted[-1].stop_item) == (2, 7)
    again = cut_task(ledger, 1, items=ITEMS, lease=8, now=4.0)
    assert again is not None
    assert (again.first_item, again.stop_item) == (2, 4)


def test_an_image_rendered_anew_meanwhile_stays(ledger: Ledger, task: ClaimedTask) -> None:
    commit(ledger, task, range(ITEMS - 1, ITEMS))
    assert render_again(ledger, i2="another hash") == []
    assert counters(ledger) == (8, 0, 0, 8, JobState.FINISHED)


def test_an_image_whose_task_is_under_way_stays(ledger: Ledger, task: ClaimedTask) -> None:
    assert render_again(ledger, i2="hash 2") == []
    assert counters(ledger) == (7, 0, 1, 7, JobState.OPEN)


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_a_job_that_was_stopped_stays_so(ledger: Ledger, task: ClaimedTask, verb: str) -> None:
    with ledger.write() as connection:
        getattr(steering, verb)(connection, 1, now=2.5)
        tasks.hand_back(connection, ref_of(task), now=2.5)
    assert render_again(ledger, i2="hash 2") == [2]
    stopped = JobState.PAUSED if verb == "pause" else JobState.CANCELLED
    assert counters(ledger) == (6, 2, 0, 6, stopped)


def test_jobs_are_walked_by_number_those_that_are_gone_among_them(
    ledger: Ledger, task: ClaimedTask
) -> None:
    with ledger.write() as connection:
        connection.execute(sa.update(images).where(images.c.item == 6).values(job_id=500))
        connection.execute(sa.update(images).where(images.c.item == 5).values(job_id=600))
    with ledger.read() as connection:
        places, after = [], 0
        while (place := checks.job_after(connection, after)) is not None:
            places.append((place.id, place.name))
            after = place.id
    assert places == [(1, "job"), (500, None), (600, None)]


def test_what_rows_say_of_their_objects_is_read_in_order(ledger: Ledger, task: ClaimedTask) -> None:
    with ledger.read() as connection:
        kept = checks.kept_between(connection, 1, 2, 5)
        assert checks.first_item_from(connection, 1, 3) == 3
        assert checks.first_item_from(connection, 1, 7) is None
        assert checks.is_at_work(connection, 1)
        named = checks.named_anywhere(connection, ["renders/job/2.png", "renders/job/99.png"])
        assert checks.shard_of(connection, 1, 7) == "jobs/job/items"
        assert checks.shard_of(connection, 1, 8) is None
    assert [(one.item, one.sha256) for one in kept] == [(n, f"hash {n}") for n in (2, 3, 4)]
    assert named == {"renders/job/2.png"}
