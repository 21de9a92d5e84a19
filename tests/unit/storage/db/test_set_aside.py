"""Workers that fail what others render: found out, set aside, and forgiven."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from storage.contract.claims import ClaimedTask
from storage.contract.outcomes import Reason
from storage.db import set_aside, tables, tasks
from storage.db.engine import Ledger
from storage.testing.factories import (
    add_groups,
    add_worker,
    cut_task,
    make_failure,
    make_image_row,
    ref_of,
)

BAD, GOOD = "testhost/cpu#1", "testhost/cpu#2"


@pytest.fixture
def pair(ledger: Ledger) -> tuple[int, int]:
    """A bad worker and a good one, and a group of 40 items."""
    workers = add_worker(ledger, pid=1), add_worker(ledger, pid=2)
    add_groups(ledger, (40, 1))
    return workers


def claim(ledger: Ledger, worker: int, now: float, items: int = 4) -> ClaimedTask:
    task = cut_task(ledger, worker, items=items, lease=int(now), now=now)
    assert task
    return task


def fail(ledger: Ledger, task: ClaimedTask, now: float, reason: Reason = Reason.ERROR) -> None:
    with ledger.write() as connection:
        tasks.fail(connection, ref_of(task), make_failure(reason=reason, at=now))


def render(ledger: Ledger, task: ClaimedTask, now: float) -> None:
    rows = [make_image_row(task, item) for item in range(task.first_item, task.stop_item)]
    with ledger.write() as connection:
        tasks.commit(connection, ref_of(task), rows, expires_at=now + 60, now=now)


def fail_and_let_another_render(ledger: Ledger, pair: tuple[int, int], now: float) -> None:
    """The bad worker fails a task; the good one renders both halves of it."""
    fail(ledger, claim(ledger, pair[0], now), now)
    for later in (10.0, 11.0):
        render(ledger, claim(ledger, pair[1], now + later), now + later)


def held_against(ledger: Ledger) -> dict[str, tuple[int, float]]:
    with ledger.read() as connection:
        found = connection.execute(sa.select(tables.set_aside))
        return {row.worker_name: (row.failures, row.until) for row in found}


def test_the_third_failure_that_others_rendered_sets_a_worker_aside(
    ledger: Ledger, pair: tuple[int, int]
) -> None:
    for turn in (100.0, 200.0):
        fail_and_let_another_render(ledger, pair, turn)
    assert held_against(ledger) == {BAD: (2, 0.0)}

    fail_and_let_another_render(ledger, pair, 300.0)

    (failures, until) = held_against(ledger)[BAD]
    assert (failures, until) == (3, 310.0 + set_aside.FIRST_SECONDS)
    with ledger.read() as connection:
        assert set_aside.groups_of(connection, BAD, now=until - 1) == {1}
        assert set_aside.groups_of(connection, BAD, now=until) == set()
        assert set_aside.groups_of(connection, GOOD, now=until - 1) == set()
        said = sa.select(tables.events.c.detail).where(tables.events.c.verb == "set-aside")
        detail = connection.execute(said).scalar_one()
    assert detail == (
        "group 1 for 60 s, after 3 failures that others rendered; the last: error: boom"
    )


def test_a_task_it_finishes_wipes_the_slate(ledger: Ledger, pair: tuple[int, int]) -> None:
    for turn in (100.0, 200.0, 300.0):
        fail_and_let_another_render(ledger, pair, turn)
    render(ledger, claim(ledger, pair[0], 999.0), 999.0)
    assert held_against(ledger) == {}


def test_what_nobody_rendered_is_held_against_nobody(ledger: Ledger, pair: tuple[int, int]) -> None:
    for turn, worker in ((100.0, pair[0]), (200.0, pair[1]), (300.0, pair[0])):
        fail(ledger, claim(ledger, worker, turn), turn)
    assert held_against(ledger) == {}


def test_a_worker_that_succeeds_at_the_second_try_is_not_held_to_the_first(
    ledger: Ledger, pair: tuple[int, int]
) -> None:
    fail(ledger, claim(ledger, pair[0], 100.0), 100.0)
    for turn in (200.0, 201.0):
        render(ledger, claim(ledger, pair[0], turn), turn)
    assert held_against(ledger) == {}


def test_a_lapse_is_held_against_nobody(ledger: Ledger, pair: tuple[int, int]) -> None:
    fail(ledger, claim(ledger, pair[0], 100.0), 100.0, Reason.LAPSED)
    render(ledger, claim(ledger, pair[1], 200.0), 200.0)
    assert held_against(ledger) == {}


def test_each_further_time_is_twice_as_long_up_to_a_bound() -> None:
    seconds = [set_aside.seconds_for(failures) for failures in range(1, 7)]
    assert seconds == [0, 0, 60, 120, 240, 480]
    assert set_aside.seconds_for(1000) == set_aside.LONGEST_SECONDS
