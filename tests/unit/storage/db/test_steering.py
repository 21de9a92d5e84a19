"""What users do to jobs: above all, another try for what failed, and for nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from storage.contract.claims import ClaimedTask
from storage.contract.errors import StaleTransition
from storage.contract.outcomes import Outcome
from storage.contract.states import JobState
from storage.db import images, jobs, steering, tables, tasks
from storage.db.engine import Ledger
from storage.db.images import ImageFilter
from storage.testing.factories import (
    add_groups,
    cut_task,
    make_failure,
    make_image_row,
    ref_of,
)


def finish(ledger: Ledger, task: ClaimedTask, *failed: int) -> None:
    rows = [
        make_image_row(
            task,
            item,
            outcome=Outcome.FAILED if item in failed else Outcome.RENDERED,
            tags='{"set":"a","by":"me"}',
        )
        for item in range(task.first_item, task.stop_item)
    ]
    with ledger.write() as connection:
        tasks.commit(connection, ref_of(task), rows, expires_at=1e9, now=2.0)


def whole(ledger: Ledger, worker_id: int, group_id: int = 1, now: float = 1.0) -> ClaimedTask:
    task = cut_task(ledger, worker_id, items=99, group_id=group_id, now=now)
    assert task
    return task


def retry(ledger: Ledger) -> int:
    with ledger.write() as connection:
        return steering.retry_failed(connection, 1, now=50.0)


def job_of(ledger: Ledger) -> jobs.Job:
    with ledger.read() as connection:
        return jobs.get(connection, 1)


def column(ledger: Ledger, wanted: Any) -> list[Any]:
    with ledger.read() as connection:
        return list(connection.execute(sa.select(wanted).order_by(wanted)).scalars())


def test_only_the_failed_items_of_a_finished_job_can_be_claimed_again(
    ledger: Ledger, worker_id: int
) -> None:
    add_groups(ledger, (6, 1), (4, 1))
    finish(ledger, whole(ledger, worker_id), 1, 2, 5)
    finish(ledger, whole(ledger, worker_id, 2), 9)
    assert job_of(ledger).state == JobState.FINISHED

    assert retry(ledger) == 4

    job = job_of(ledger)
    assert (job.state, job.done, job.failed, job.finished_at) == (JobState.OPEN, 6, 0, None)
    assert column(ledger, tables.images.c.item) == [0, 3, 4, 6, 7, 8]
    with ledger.read() as connection:
        tagged = images.page(connection, ImageFilter(tags=(("by", "me"),)), limit=99)
        assert [row.item for _, row in tagged] == [0, 3, 4, 6, 7, 8]
    assert len(column(ledger, tables.image_tags.c.item)) == 12
    again = [cut_task(ledger, worker_id, items=9, group_id=g, now=60.0) for g in (1, 1, 1, 2)]
    found = [(one.first_item, one.stop_item) if one else None for one in again]
    assert found == [(1, 3), (5, 6), None, (9, 10)]


def test_what_is_retried_ends_the_job_again(ledger: Ledger, worker_id: int) -> None:
    add_groups(ledger, (3, 1))
    finish(ledger, whole(ledger, worker_id), 1)
    assert retry(ledger) == 1
    finish(ledger, whole(ledger, worker_id, now=60.0))
    job = job_of(ledger)
    assert (job.state, job.done, job.failed) == (JobState.FINISHED, 3, 0)
    assert retry(ledger) == 0
    assert job_of(ledger).state == JobState.FINISHED


def test_a_cancelled_job_is_open_again_and_a_paused_one_stays_paused(
    ledger: Ledger, worker_id: int
) -> None:
    add_groups(ledger, (3, 1), (3, 1))
    finish(ledger, whole(ledger, worker_id), 1)
    with ledger.write() as connection:
        steering.pause(connection, 1, now=3.0)
    assert retry(ledger) == 1
    assert job_of(ledger).state == JobState.PAUSED
    with ledger.write() as connection:
        steering.resume(connection, 1, now=4.0)
    finish(ledger, whole(ledger, worker_id, now=60.0), 1)
    with ledger.write() as connection:
        steering.cancel(connection, 1, now=5.0)
    assert retry(ledger) == 1
    assert job_of(ledger).state == JobState.OPEN


def test_an_open_job_is_retried_while_it_goes_on_but_for_tasks_under_way(
    ledger: Ledger, worker_id: int
) -> None:
    add_groups(ledger, (2, 1), (4, 1))
    finish(ledger, whole(ledger, worker_id), 0)
    under_way = whole(ledger, worker_id, 2)
    bad = make_image_row(under_way, 3, outcome=Outcome.FAILED)
    with ledger.write() as connection:
        tasks.commit(connection, ref_of(under_way), [bad], expires_at=1e9, now=2.0)
    assert retry(ledger) == 1
    assert column(ledger, tables.images.c.item) == [1, 3]
    with ledger.write() as connection:
        tasks.hand_back(connection, ref_of(under_way), now=3.0)
    assert retry(ledger) == 1
    assert column(ledger, tables.images.c.item) == [1]


def test_what_earlier_attempts_failed_of_is_forgotten(ledger: Ledger, worker_id: int) -> None:
    add_groups(ledger, (1, 1), (2, 2))
    finish(ledger, whole(ledger, worker_id), 0)
    other = whole(ledger, worker_id, 2)
    with ledger.write() as connection:
        tasks.fail(connection, ref_of(other), make_failure())
    retry(ledger)
    assert whole(ledger, worker_id, 1, now=60.0).failures == ()
    assert whole(ledger, worker_id, 2, now=60.0).failures == ()


def test_thousands_of_failures_scattered_over_a_job_go_back_in_bulk(
    ledger: Ledger, worker_id: int
) -> None:
    add_groups(ledger, (14_000, 1))
    finish(ledger, whole_of(ledger, worker_id, 14_000), *range(0, 14_000, 2))
    assert retry(ledger) == 7_000
    job = job_of(ledger)
    assert (job.done, job.failed, job.remaining) == (7_000, 0, 7_000)
    assert len(column(ledger, tables.returned.c.first_item)) == 7_000


def whole_of(ledger: Ledger, worker_id: int, items: int) -> ClaimedTask:
    task = cut_task(ledger, worker_id, items=items)
    assert task
    return task


def test_priority_is_changed_and_every_step_is_an_event(ledger: Ledger) -> None:
    add_groups(ledger, (1, 1))
    with ledger.write() as connection:
        steering.set_priority(connection, 1, 7, now=2.0)
        steering.pause(connection, 1, now=3.0)
        steering.resume(connection, 1, now=4.0)
        steering.cancel(connection, 1, now=5.0)
        steering.reopen(connection, 1, now=6.0)
    assert job_of(ledger).priority == 7
    with ledger.read() as connection:
        found = connection.execute(sa.select(tables.events).order_by(tables.events.c.id))
        said = [(row.verb, row.detail) for row in found]
    assert said == [
        ("submit", "job"),
        ("priority", "7"),
        ("pause", None),
        ("resume", None),
        ("cancel", None),
        ("retry", None),
    ]


def test_what_makes_no_sense_is_refused(ledger: Ledger) -> None:
    add_groups(ledger, (1, 1))
    with pytest.raises(StaleTransition, match="cannot resume job 1"), ledger.write() as connection:
        steering.resume(connection, 1, now=1.0)
