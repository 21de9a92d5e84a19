"""Tasks and their leases: cut, renewed, committed, ended; and who may not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from storage.contract.capability import Mode
from storage.contract.claims import ClaimedTask
from storage.contract.errors import LeaseLost
from storage.contract.outcomes import DIVISIBLE, Outcome, Reason, exhausted
from storage.contract.states import Entity, JobState, TaskState
from storage.db import groups, jobs, tables, tasks
from storage.db.engine import Ledger
from storage.db.images import ImageRow
from storage.db.ranges import decode_failures
from storage.db.tasks import Ended, TaskRef
from storage.db.transitions import advance
from storage.testing.factories import (
    add_groups,
    add_worker,
    cut_task,
    make_failure,
    make_image_row,
    ref_of,
)

Everything = Callable[[], dict[str, list[Any]]]
Step = Callable[[sa.Connection, TaskRef, ClaimedTask], object]

STEPS: dict[str, Step] = {
    "renew": lambda c, ref, _: tasks.renew(c, ref, expires_at=1e9),
    "commit": lambda c, ref, task: tasks.commit(
        c, ref, [make_image_row(task, 0)], expires_at=1e9, now=2.0
    ),
    "commit nothing": lambda c, ref, _: tasks.commit(c, ref, [], expires_at=1e9, now=2.0),
    "hand back": lambda c, ref, _: tasks.hand_back(c, ref, now=2.0),
    "fail": lambda c, ref, _: tasks.fail(c, ref, make_failure()),
    "lapse": lambda c, ref, _: tasks.lapse(c, ref, now=2.0, failure=make_failure()),
}
ENDS: dict[str, Step] = {name: STEPS[name] for name in ("hand back", "fail", "lapse")}


@pytest.fixture
def task(ledger: Ledger, worker_id: int) -> ClaimedTask:
    """The items 0 to 5 of a job of ten, in batches of two."""
    add_groups(ledger, (10, 2))
    found = cut_task(ledger, worker_id, items=6)
    assert found
    return found


def commit(ledger: Ledger, task: ClaimedTask, *rows: ImageRow, now: float = 2.0) -> Ended:
    with ledger.write() as connection:
        return tasks.commit(connection, ref_of(task), rows, expires_at=now + 60, now=now)


def rendered(task: ClaimedTask, *items: int) -> list[ImageRow]:
    return [make_image_row(task, item) for item in items]


def counters(ledger: Ledger, group_id: int = 1) -> tuple[int, int, int, int]:
    """Claimable, leased, done and failed items of a group."""
    with ledger.read() as connection:
        columns = sa.select(tables.groups).where(tables.groups.c.id == group_id)
        view = groups.view_of(connection.execute(columns).one())
    return view.claimable, view.leased, view.done, view.failed


def waiting(ledger: Ledger) -> list[tuple[int, int]]:
    table = tables.returned
    with ledger.read() as connection:
        found = connection.execute(sa.select(table).order_by(table.c.first_item))
        return [(row.first_item, row.stop_item) for row in found]


def row_of(ledger: Ledger, task: ClaimedTask) -> Any:
    statement = sa.select(tables.tasks).where(tables.tasks.c.id == task.task_id)
    with ledger.read() as connection:
        return connection.execute(statement).one()


def test_a_cut_task_has_all_its_worker_needs_to_know(ledger: Ledger, task: ClaimedTask) -> None:
    with ledger.read() as connection:
        (group,) = groups.of_job(connection, 1, limit=9)
    assert task == ClaimedTask(
        task_id=1,
        lease=7,
        job_id=1,
        job_name="job",
        group_id=1,
        group_first_item=0,
        first_item=0,
        stop_item=6,
        spec=group.spec,
        mode=Mode.CPU,
        lease_seconds=60.0,
    )
    assert task.items == 6
    assert counters(ledger) == (4, 6, 0, 0)
    assert row_of(ledger, task).lease_expires_at == 61.0


def test_tasks_of_a_group_follow_on_each_other_until_nothing_is_left(
    ledger: Ledger, worker_id: int
) -> None:
    add_groups(ledger, (3, 2), (7, 3))
    cuts = [cut_task(ledger, worker_id, items=4, group_id=2) for _ in range(4)]
    assert [one and (one.first_item, one.stop_item, one.group_first_item) for one in cuts] == [
        (3, 6, 3),
        (6, 9, 3),
        (9, 10, 3),
        None,
    ]
    assert counters(ledger, 2) == (0, 7, 0, 0)
    assert counters(ledger, 1) == (3, 0, 0, 0)


def test_a_commit_records_the_rows_moves_all_counters_and_renews_the_lease(
    ledger: Ledger, task: ClaimedTask
) -> None:
    bad = make_image_row(task, 3, outcome=Outcome.FAILED, reason=Reason.NAN)
    ended = commit(ledger, task, *rendered(task, 0, 5), bad, now=30.0)

    assert ended == Ended(task=False, job=False)
    assert counters(ledger) == (4, 3, 2, 1)
    found = row_of(ledger, task)
    assert (found.done, found.failed, found.state) == (2, 1, TaskState.LEASED)
    assert found.lease_expires_at == 90.0
    with ledger.read() as connection:
        job = jobs.get(connection, 1)
    assert (job.done, job.failed, job.remaining, job.state) == (2, 1, 7, JobState.OPEN)


def test_the_last_commit_ends_the_task_and_then_the_job(
    ledger: Ledger, task: ClaimedTask, worker_id: int
) -> None:
    rest = cut_task(ledger, worker_id, items=9, lease=8)
    assert rest
    assert commit(ledger, rest, *rendered(rest, 6, 7, 8, 9)) == Ended(task=True, job=False)
    assert commit(ledger, task, *rendered(task, 0, 1, 2, 3)) == Ended(task=False, job=False)
    assert commit(ledger, task, *rendered(task, 4, 5), now=9.0) == Ended(task=True, job=True)

    assert counters(ledger) == (0, 0, 10, 0)
    assert (row_of(ledger, task).state, row_of(ledger, task).ended_at) == ("finished", 9.0)
    with ledger.read() as connection:
        job = jobs.get(connection, 1)
    assert (job.state, job.finished_at, job.ended) == (JobState.FINISHED, 9.0, True)


def test_a_paused_job_finishes_with_what_was_claimed_before(ledger: Ledger, worker_id: int) -> None:
    add_groups(ledger, (2, 2))
    task = cut_task(ledger, worker_id)
    assert task
    with ledger.write() as connection:
        advance(connection, Entity.JOB, 1, "pause", now=1.0)
    assert commit(ledger, task, *rendered(task, 0, 1)) == Ended(task=True, job=True)
    with ledger.read() as connection:
        assert jobs.get(connection, 1).state == JobState.FINISHED


def test_a_cancelled_job_keeps_what_is_committed_and_stays_cancelled(
    ledger: Ledger, worker_id: int
) -> None:
    add_groups(ledger, (2, 2))
    task = cut_task(ledger, worker_id)
    assert task
    with ledger.write() as connection:
        advance(connection, Entity.JOB, 1, "cancel", now=1.0)
    assert commit(ledger, task, *rendered(task, 0, 1)) == Ended(task=True, job=True)
    with ledger.read() as connection:
        job = jobs.get(connection, 1)
    assert (job.state, job.done) == (JobState.CANCELLED, 2)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("step", STEPS)
def test_after_the_lease_was_lost_no_step_leaves_a_trace(
    ledger: Ledger, task: ClaimedTask, everything: Everything, end: str, step: str
) -> None:
    with ledger.write() as connection:
        ENDS[end](connection, ref_of(task), task)
    before = everything()
    with pytest.raises(LeaseLost), ledger.write() as connection:
        STEPS[step](connection, ref_of(task), task)
    assert everything() == before


@pytest.mark.parametrize("ref", [TaskRef(1, 8), TaskRef(2, 7)], ids=["another lease", "no task"])
@pytest.mark.parametrize("step", STEPS)
def test_only_who_presents_the_lease_takes_a_step(
    ledger: Ledger, task: ClaimedTask, everything: Everything, ref: TaskRef, step: str
) -> None:
    before = everything()
    with pytest.raises(LeaseLost), ledger.write() as connection:
        STEPS[step](connection, ref, task)
    assert everything() == before


def test_a_finished_task_cannot_be_committed_again(
    ledger: Ledger, task: ClaimedTask, everything: Everything
) -> None:
    commit(ledger, task, *rendered(task, *range(6)))
    before = everything()
    with pytest.raises(LeaseLost):
        commit(ledger, task, *rendered(task, 5))
    assert everything() == before


def test_an_item_is_never_recorded_twice(
    ledger: Ledger, task: ClaimedTask, everything: Everything
) -> None:
    commit(ledger, task, *rendered(task, 0))
    before = everything()
    with pytest.raises(IntegrityError, match=r"(?i)unique constraint.*images"):
        commit(ledger, task, *rendered(task, 1, 0))
    assert everything() == before


def test_a_task_handed_back_returns_what_is_undone_at_once_and_without_blame(
    ledger: Ledger, task: ClaimedTask, worker_id: int
) -> None:
    commit(ledger, task, *rendered(task, 0, 3))
    with ledger.write() as connection:
        assert tasks.hand_back(connection, ref_of(task), now=5.0) == 4

    assert waiting(ledger) == [(1, 3), (4, 6)]
    assert counters(ledger) == (8, 0, 2, 0)
    again = cut_task(ledger, worker_id, now=5.0, lease=8)
    assert again
    assert (again.first_item, again.stop_item, again.failures) == (1, 3, ())
    found = row_of(ledger, task)
    assert (found.state, found.ended_at) == (TaskState.RETURNED, 5.0)


@pytest.mark.parametrize("reason", Reason)
def test_a_failed_task_returns_with_its_history_halved_if_one_item_may_be_the_culprit(
    ledger: Ledger, task: ClaimedTask, worker_id: int, reason: Reason
) -> None:
    failure = make_failure(reason=reason, detail="why", worker_id=worker_id, at=50.0)
    commit(ledger, task, *rendered(task, 0, 1))
    with ledger.write() as connection:
        assert tasks.fail(connection, ref_of(task), failure) == 4

    assert waiting(ledger) == ([(2, 4), (4, 6)] if reason in DIVISIBLE else [(2, 6)])
    assert counters(ledger) == (8, 0, 2, 0)
    assert row_of(ledger, task).state == TaskState.FAILED
    again = cut_task(ledger, worker_id, items=2, now=60.0, lease=8)
    assert again
    assert [(one.reason, one.detail, one.at, one.items) for one in again.failures] == [
        (reason, "why", 50.0, 4)
    ]
    with ledger.read() as connection:
        said = sa.select(tables.events.c.detail).where(tables.events.c.verb == "fail")
        assert connection.execute(said).scalar_one() == f"{reason}: why"


def test_what_failed_rests_a_little_while_others_are_claimed(
    ledger: Ledger, task: ClaimedTask, worker_id: int
) -> None:
    with ledger.write() as connection:
        tasks.fail(connection, ref_of(task), make_failure(at=50.0))
    now, later = (cut_task(ledger, worker_id, now=at, lease=8) for at in (50.0, 70.0))
    assert now
    assert later
    assert (now.first_item, later.first_item) == (6, 0)


def test_what_lapsed_can_be_claimed_at_once(
    ledger: Ledger, task: ClaimedTask, worker_id: int
) -> None:
    lapsed = make_failure(reason=Reason.LAPSED, at=50.0)
    with ledger.write() as connection:
        assert tasks.lapse(connection, ref_of(task), now=50.0, failure=lapsed) == 6
    again = cut_task(ledger, worker_id, items=6, now=50.0, lease=8)
    assert again
    assert (again.first_item, again.stop_item, len(again.failures)) == (0, 6, 1)
    assert row_of(ledger, task).state == TaskState.LAPSED


@pytest.mark.parametrize("culprit", [0, 5, 12])
def test_an_item_that_kills_its_task_takes_none_of_its_neighbours_with_it(
    ledger: Ledger, worker_id: int, culprit: int
) -> None:
    """Every attempt with the culprit in it crashes before anything is recorded."""
    add_groups(ledger, (13, 4))
    given_up: list[tuple[int, ...]] = []
    now, attempts = 0.0, 0
    while task := cut_task(ledger, worker_id, items=13, now=now, lease=attempts):
        items = range(task.first_item, task.stop_item)
        if exhausted(task.failures, task.items):
            given_up.append(tuple(items))
            commit(ledger, task, *(make_image_row(task, i, outcome="failed") for i in items))
        elif culprit in items:
            crash = make_failure(reason=Reason.CRASHED, at=now)
            with ledger.write() as connection:
                tasks.lapse(connection, ref_of(task), now=now, failure=crash)
        else:
            commit(ledger, task, *rendered(task, *items))
        now, attempts = now + 100.0, attempts + 1
    assert given_up == [(culprit,)]
    assert counters(ledger) == (0, 0, 12, 1)
    assert attempts < 20


def test_a_renewed_lease_ends_later(ledger: Ledger, task: ClaimedTask) -> None:
    with ledger.write() as connection:
        tasks.renew(connection, ref_of(task), expires_at=500.0)
    assert row_of(ledger, task).lease_expires_at == 500.0


def test_leases_that_ran_out_are_found_longest_overdue_first(
    ledger: Ledger, worker_id: int
) -> None:
    other = add_worker(ledger, pid=2)
    add_groups(ledger, (10, 2))
    cut_task(ledger, worker_id, items=2, lease=1, now=20.0)
    cut_task(ledger, other, items=2, lease=2, now=10.0)
    ended = cut_task(ledger, other, items=2, lease=3, now=0.0)
    assert ended
    with ledger.write() as connection:
        tasks.hand_back(connection, ref_of(ended), now=1.0)

    def overdue(now: float) -> list[tuple[TaskRef, int]]:
        with ledger.read() as connection:
            return tasks.expired(connection, now=now)

    assert overdue(70.0) == []
    assert overdue(70.1) == [(TaskRef(2, 2), other)]
    assert overdue(99.0) == [(TaskRef(2, 2), other), (TaskRef(1, 1), worker_id)]
    with ledger.read() as connection:
        assert tasks.leased_by(connection, worker_id) == [TaskRef(1, 1)]
        assert tasks.leased_by(connection, other) == [TaskRef(2, 2)]


def test_failures_of_earlier_attempts_stay_with_a_range_until_it_is_settled(
    ledger: Ledger, worker_id: int
) -> None:
    add_groups(ledger, (4, 4))
    for attempt, reason in enumerate([Reason.MODEL, Reason.LAPSED, Reason.ERROR]):
        task = cut_task(ledger, worker_id, items=9, now=attempt * 100.0, lease=attempt)
        assert task
        assert [one.at for one in task.failures] == [a * 100.0 for a in range(attempt)]
        failure = make_failure(reason=reason, at=attempt * 100.0)
        with ledger.write() as connection:
            tasks.fail(connection, ref_of(task), failure)
    with ledger.read() as connection:
        kept = connection.execute(sa.select(tables.returned.c.failures)).scalars().all()
    reasons = [[one.reason for one in decode_failures(text)] for text in kept]
    assert reasons == [[Reason.MODEL, Reason.LAPSED, Reason.ERROR]] * 2
