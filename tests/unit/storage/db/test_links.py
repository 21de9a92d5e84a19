"""What is left of a group between its links, and which images may be linked to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from storage.contract.claims import ClaimedTask
from storage.contract.errors import LedgerUnavailable
from storage.contract.outcomes import Outcome
from storage.db import images, links, marks
from storage.db.engine import Ledger
from storage.db.images import ImageRow
from storage.db.links import unlinked
from storage.testing.factories import add_groups, add_worker, cut_task, make_image_row

PlanOf = Callable[[Callable[[sa.Connection], Iterable[Any]]], list[str]]


@given(
    first=st.integers(0, 50),
    length=st.integers(1, 200),
    places=st.sets(st.integers(0, 199)),
    most=st.integers(1, 40),
)
def test_the_runs_left_hold_all_that_is_not_linked(
    first: int, length: int, places: set[int], most: int
) -> None:
    stop = first + length
    linked = sorted(first + place for place in places if place < length)
    runs = unlinked(first, stop, linked, most)
    held = [item for a, b in runs for item in range(a, b)]
    assert len(runs) <= most
    assert all(first <= a < b <= stop for a, b in runs)
    assert held == sorted(set(held))
    assert set(range(first, stop)) - set(held) <= set(linked)
    if len(unlinked(first, stop, linked, 10_000)) <= most:
        assert set(held) == set(range(first, stop)) - set(linked)


def test_where_runs_are_too_many_the_narrowest_gaps_are_rendered_too() -> None:
    linked = [1, 3, 4, 5, 7]
    assert unlinked(0, 9, linked) == [(0, 1), (2, 3), (6, 7), (8, 9)]
    assert unlinked(0, 9, linked, 2) == [(0, 3), (6, 9)]


@pytest.fixture
def task(ledger: Ledger, worker_id: int) -> ClaimedTask:
    """A task of eight items."""
    group_id = add_groups(ledger, (8, 1), name="job").id
    task = cut_task(ledger, worker_id, items=8, group_id=group_id)
    assert task
    return task


def keyed(task: ClaimedTask, item: int, **overrides: Any) -> ImageRow:
    return make_image_row(task, item, **({"reuse_key": f"{item:032x}"} | overrides))


def insert(ledger: Ledger, rows: list[ImageRow]) -> None:
    with ledger.write() as connection:
        images.insert(connection, rows)


def test_only_images_that_can_be_shown_are_linked_to(ledger: Ledger, task: ClaimedTask) -> None:
    insert(
        ledger,
        [
            keyed(task, 0),
            keyed(task, 1, outcome=Outcome.FAILED),
            keyed(task, 2, object_key=None),
            keyed(task, 3, hidden_at=5.0),
            keyed(task, 4, reuse_key=None),
        ],
    )
    keys = [f"{item:032x}" for item in range(8)]
    with ledger.read() as connection:
        assert links.known_keys(connection, keys) == {keys[0]}
    with ledger.write() as connection:
        assert {key: row.item for key, row in links.sources(connection, keys).items()} == {
            keys[0]: 0
        }


def test_of_several_images_the_oldest_is_linked_to(ledger: Ledger, task: ClaimedTask) -> None:
    insert(ledger, [keyed(task, item, reuse_key="same") for item in (5, 2, 7)])
    with ledger.write() as connection:
        assert links.sources(connection, ["same", "other"])["same"].item == 2


def test_more_keys_than_a_query_takes_are_found(
    ledger: Ledger, task: ClaimedTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "KEYS_PER_QUERY", 3)
    insert(ledger, [keyed(task, item) for item in range(8)])
    keys = [f"{item:032x}" for item in range(20)]
    with ledger.write() as connection:
        assert len(links.known_keys(connection, keys)) == 8
        assert len(links.sources(connection, keys)) == 8


def test_a_link_to_a_link_names_the_image_that_was_rendered(task: ClaimedTask) -> None:
    from storage.testing.factories import make_item, make_spec

    group = links.LinkedGroup(id=9, first_item=0, stop_item=2, spec=make_spec(model="renamed"))
    item = make_item(4, tags={"a": "b"})
    first = links.link_row(7, group, 0, item, keyed(task, 3, rating=5, collections='["x"]'))
    second = links.link_row(8, group, 1, item, first)
    assert (first.linked_job, first.linked_item) == (task.job_id, 3)
    assert (second.linked_job, second.linked_item) == (task.job_id, 3)
    assert (second.job_id, second.item, second.row, second.tags) == (8, 1, 4, '{"a":"b"}')
    assert (second.model, second.object_key) == ("renamed", first.object_key)
    assert (first.rating, first.collections, first.reuse_key, first.seconds) == (None,) * 4


def test_keys_are_looked_up_by_their_index(plan_of: PlanOf) -> None:
    steps = plan_of(lambda connection: links.known_keys(connection, ["a", "b"]))
    assert any("ix_images_reuse_key" in step for step in steps)
    assert not any(step.startswith("SCAN") for step in steps)


def hide_at_once(ledger: Ledger, task: ClaimedTask) -> None:
    with ledger.write() as connection:
        connection.exec_driver_sql("SET LOCAL lock_timeout = '200ms'")
        marks.hide(connection, [(task.job_id, 0)], now=1.0)


def test_an_image_that_is_being_linked_cannot_be_hidden_meanwhile(
    postgres_ledger: Ledger,
) -> None:
    """Or its object could be purged before the link that needs it is seen."""
    worker_id = add_worker(postgres_ledger)
    group_id = add_groups(postgres_ledger, (1, 1), name="job").id
    task = cut_task(postgres_ledger, worker_id, items=1, group_id=group_id)
    assert task
    insert(postgres_ledger, [keyed(task, 0, reuse_key="k")])
    with postgres_ledger.write() as linking:
        assert links.sources(linking, ["k"])
        with pytest.raises(LedgerUnavailable):
            hide_at_once(postgres_ledger, task)
    with postgres_ledger.write() as hiding:
        assert marks.hide(hiding, [(task.job_id, 0)], now=1.0) == 1
