"""Tags, ratings, collections and hiding, on images in bulk."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
import sqlalchemy as sa

from storage.contract.claims import ClaimedTask
from storage.contract.search import Between, Is
from storage.db import images, marks, search
from storage.db.engine import Ledger
from storage.db.images import ImageFilter
from storage.db.search import Sort
from storage.db.search_index import Indexer
from storage.db.tables import collected, image_tags
from storage.testing.factories import add_groups, cut_task, make_image_row

TIMES = count(50)
"""No two marks are made at one time."""


@pytest.fixture
def task(ledger: Ledger, worker_id: int) -> ClaimedTask:
    """A task of eight items, with an image each."""
    group_id = add_groups(ledger, (8, 1), name="job").id
    task = cut_task(ledger, worker_id, items=8, group_id=group_id)
    assert task
    with ledger.write() as connection:
        images.insert(connection, [make_image_row(task, n, tags='{"a":"1"}') for n in range(8)])
    Indexer(ledger).catch_up(60)
    return task


def call(ledger: Ledger, mark: Any, *given: Any) -> int:
    with ledger.write() as connection:
        changed: int = mark(connection, *given, now=next(TIMES))
    Indexer(ledger).catch_up(60)
    return changed


def keys(task: ClaimedTask, *items: int) -> list[tuple[int, int]]:
    return [(task.job_id, item) for item in items]


def found(ledger: Ledger, field: str, value: str) -> list[int]:
    with ledger.read() as connection:
        hits = search.page(connection, Is(field, value), sort=Sort("created", False), limit=50)
    return [hit.item for hit in hits]


def test_a_tag_is_added_changed_and_taken_away(ledger: Ledger, task: ClaimedTask) -> None:
    some = keys(task, 2, 5)
    assert call(ledger, marks.tag, some, "a", "2") == 2
    assert call(ledger, marks.tag, some, "b", "x") == 2
    assert call(ledger, marks.tag, some, "b", "x") == 0
    assert found(ledger, "tag.a", "2") == [2, 5]
    assert found(ledger, "tag.b", "x") == [2, 5]
    assert found(ledger, "tag.a", "1") == [0, 1, 3, 4, 6, 7]
    with ledger.read() as connection:
        wanted = ImageFilter(tags=(("a", "2"), ("b", "x")))
        assert [row.item for _, row in images.page(connection, wanted, limit=9)] == [2, 5]
    assert call(ledger, marks.untag, some, "a", "1") == 0
    assert call(ledger, marks.untag, keys(task, 2, 3), "a", None) == 2
    assert found(ledger, "tag.a", "2") == [5]
    with ledger.read() as connection:
        rows = connection.execute(sa.select(sa.func.count()).select_from(image_tags)).scalar_one()
        assert images.get(connection, "job", 2).tags == '{"b":"x"}'
    assert rows == 6 + 2


def test_marked_images_keep_their_place_in_the_order(ledger: Ledger, task: ClaimedTask) -> None:
    call(ledger, marks.rate, keys(task, 3), 5)
    with ledger.read() as connection:
        all_of_them = search.page(
            connection, Between("seed", None, None), sort=Sort("created", False), limit=50
        )
    assert [hit.item for hit in all_of_them] == list(range(8))


def test_ratings_are_found_by_range(ledger: Ledger, task: ClaimedTask) -> None:
    assert call(ledger, marks.rate, keys(task, 1, 2), 3) == 2
    assert call(ledger, marks.rate, keys(task, 2, 4), 5) == 2
    assert call(ledger, marks.rate, keys(task, 2), 5) == 0

    def at_least(rating: int) -> list[int]:
        with ledger.read() as connection:
            wanted = Between("rating", rating, None)
            hits = search.page(connection, wanted, sort=Sort("created", False), limit=50)
        return [hit.item for hit in hits]

    assert at_least(4) == [2, 4]
    assert at_least(1) == [1, 2, 4]
    assert call(ledger, marks.rate, keys(task, 2), None) == 1
    assert at_least(4) == [4]


def test_an_image_is_in_several_collections(ledger: Ledger, task: ClaimedTask) -> None:
    assert call(ledger, marks.collect, keys(task, 1, 2), "best") == 2
    assert call(ledger, marks.collect, keys(task, 2, 3), "blue") == 2
    assert call(ledger, marks.collect, keys(task, 2, 3), "blue") == 0
    assert found(ledger, "collection", "best") == [1, 2]
    assert found(ledger, "collection", "blue") == [2, 3]
    with ledger.read() as connection:
        listed = [(one.name, one.images) for one in marks.collections(connection)]
        assert marks.collection_keys(connection, "best", limit=1) == keys(task, 1)
    assert listed == [("best", 2), ("blue", 2)]
    assert call(ledger, marks.uncollect, keys(task, 2), "best") == 1
    assert found(ledger, "collection", "best") == [1]
    assert found(ledger, "collection", "blue") == [2, 3]
    with ledger.read() as connection:
        rows = connection.execute(sa.select(sa.func.count()).select_from(collected)).scalar_one()
    assert rows == 3


def test_hidden_images_are_listed_no_more_until_they_are_shown_again(
    ledger: Ledger, task: ClaimedTask
) -> None:
    assert call(ledger, marks.hide, keys(task, 0, 7)) == 2
    assert call(ledger, marks.hide, keys(task, 0)) == 0
    assert found(ledger, "hidden", "true") == [0, 7]

    def listed() -> list[int]:
        with ledger.read() as connection:
            return [row.item for _, row in images.page(connection, ImageFilter(), limit=50)]

    assert listed() == [1, 2, 3, 4, 5, 6]
    assert call(ledger, marks.unhide, keys(task, 0, 1)) == 1
    assert listed() == [0, 1, 2, 3, 4, 5, 6]
    assert found(ledger, "hidden", "true") == [7]


def test_marking_takes_no_statement_an_image(ledger: Ledger, task: ClaimedTask) -> None:
    asked: list[str] = []
    sa.event.listen(ledger.engine, "before_cursor_execute", lambda *a: asked.append(a[2]))
    with ledger.write() as connection:
        marks.tag(connection, keys(task, *range(8)), "new", "1", now=1.0)
    assert len(asked) < 8
