"""Purging: objects first, rows last, and nothing that another image still has."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from storage.contract.claims import ClaimedTask
from storage.db import images, marks, purging
from storage.db.engine import Ledger
from storage.db.images import ImageRow
from storage.db.purging import Doomed
from storage.db.tables import collected, image_tags
from storage.db.tables import images as table
from storage.db.tasks import hand_back
from storage.testing.factories import add_groups, cut_task, make_image_row, ref_of


@pytest.fixture
def task(ledger: Ledger, worker_id: int) -> ClaimedTask:
    """A task of eight items that has ended."""
    group_id = add_groups(ledger, (8, 1), name="job").id
    task = cut_task(ledger, worker_id, items=8, group_id=group_id)
    assert task
    with ledger.write() as connection:
        hand_back(connection, ref_of(task), now=1.0)
    return task


def write(ledger: Ledger, *rows: ImageRow) -> None:
    with ledger.write() as connection:
        images.insert(connection, list(rows))


def link(task: ClaimedTask, item: int, to: int, **overrides: Any) -> ImageRow:
    """A link to another item of the job."""
    values = {"linked_job": task.job_id, "linked_item": to, "object_key": f"renders/job/{to}.png"}
    return make_image_row(task, item, **(values | overrides))


def hide(ledger: Ledger, task: ClaimedTask, *items: int, now: float = 10.0) -> None:
    with ledger.write() as connection:
        marks.hide(connection, [(task.job_id, item) for item in items], now=now)


def marked(ledger: Ledger, before: float = 10.0) -> list[Doomed]:
    with ledger.write() as connection:
        return purging.mark(connection, purging.due(connection, before=before, limit=100))


def purge(ledger: Ledger) -> tuple[list[int], list[str]]:
    """Items and objects that went."""
    doomed = marked(ledger)
    with ledger.read() as connection:
        objects = purging.objects_of(connection, doomed)
    with ledger.write() as connection:
        purging.remove(connection, doomed)
    return sorted(one.item for one in doomed), objects


def left(ledger: Ledger) -> list[int]:
    with ledger.read() as connection:
        return list(connection.execute(sa.select(table.c.item).order_by(table.c.item)).scalars())


def test_hidden_images_go_with_their_objects_tags_and_collections(
    ledger: Ledger, task: ClaimedTask
) -> None:
    write(
        ledger,
        make_image_row(task, 0, tags='{"a":"1"}', thumbnail_key="thumbnails/0.webp"),
        make_image_row(task, 1, tags='{"a":"1"}'),
    )
    with ledger.write() as connection:
        marks.collect(connection, [(task.job_id, 0)], "best", now=1.0)
    hide(ledger, task, 0)
    assert purge(ledger) == ([0], ["renders/job/0.png", "thumbnails/0.webp"])
    assert left(ledger) == [1]
    with ledger.read() as connection:
        assert connection.execute(sa.select(image_tags.c.item)).scalars().all() == [1]
        assert connection.execute(sa.select(collected)).all() == []


def test_images_hidden_later_stay(ledger: Ledger, task: ClaimedTask) -> None:
    write(ledger, make_image_row(task, 0), make_image_row(task, 1))
    hide(ledger, task, 0, now=11.0)
    assert purge(ledger) == ([], [])


def test_an_object_stays_while_a_link_to_it_is_shown(ledger: Ledger, task: ClaimedTask) -> None:
    write(ledger, make_image_row(task, 0, reuse_key="k"), link(task, 3, 0), link(task, 2, 0))
    hide(ledger, task, 0)
    assert purge(ledger) == ([0], [])
    with ledger.read() as connection:
        found = connection.execute(sa.select(table.c.item, table.c.reuse_key)).all()
    assert sorted(map(tuple, found)) == [(2, "k"), (3, None)]  # what is linked to next
    hide(ledger, task, 2)
    assert purge(ledger) == ([2], [])
    hide(ledger, task, 3)
    assert purge(ledger) == ([3], ["renders/job/0.png"])


def test_an_object_stays_while_what_it_was_linked_to_is_shown(
    ledger: Ledger, task: ClaimedTask
) -> None:
    write(ledger, make_image_row(task, 0), link(task, 1, 0))
    hide(ledger, task, 1)
    assert purge(ledger) == ([1], [])
    assert left(ledger) == [0]


def test_an_object_stays_for_a_link_that_is_hidden_but_can_be_had_back(
    ledger: Ledger, task: ClaimedTask
) -> None:
    write(ledger, make_image_row(task, 0), link(task, 1, 0))
    hide(ledger, task, 0)
    hide(ledger, task, 1, now=20.0)
    assert purge(ledger) == ([0], [])


def test_an_image_goes_together_with_its_links(ledger: Ledger, task: ClaimedTask) -> None:
    write(ledger, make_image_row(task, 0), link(task, 1, 0), link(task, 2, 0))
    hide(ledger, task, 0, 1, 2)
    assert purge(ledger) == ([0, 1, 2], ["renders/job/0.png"])
    assert left(ledger) == []


def test_what_is_being_purged_cannot_be_had_back(ledger: Ledger, task: ClaimedTask) -> None:
    write(ledger, make_image_row(task, 0))
    hide(ledger, task, 0)
    marked(ledger)
    with ledger.write() as connection:
        assert marks.unhide(connection, [(task.job_id, 0)], now=2.0) == 0


def test_what_was_had_back_meanwhile_is_not_purged(ledger: Ledger, task: ClaimedTask) -> None:
    write(ledger, make_image_row(task, 0), make_image_row(task, 1))
    hide(ledger, task, 0, 1)
    with ledger.read() as connection:
        found = purging.due(connection, before=10.0, limit=9)
    with ledger.write() as connection:
        marks.unhide(connection, [(task.job_id, 0)], now=2.0)
    with ledger.write() as connection:
        assert [one.item for one in purging.mark(connection, found)] == [1]


def test_what_a_killed_purge_left_goes_first_whatever_the_time(
    ledger: Ledger, task: ClaimedTask
) -> None:
    write(ledger, make_image_row(task, 0), make_image_row(task, 1))
    hide(ledger, task, 0)
    marked(ledger)
    hide(ledger, task, 1, now=5.0)
    with ledger.read() as connection:
        found = purging.due(connection, before=9.0, limit=1)
    assert [one.item for one in found] == [0]


def test_images_of_a_task_under_way_wait_for_its_end(ledger: Ledger, worker_id: int) -> None:
    group_id = add_groups(ledger, (2, 1), name="job").id
    task = cut_task(ledger, worker_id, items=2, group_id=group_id)
    assert task
    write(ledger, make_image_row(task, 0))
    hide(ledger, task, 0)
    assert marked(ledger) == []
    with ledger.write() as connection:
        hand_back(connection, ref_of(task), now=1.0)
    assert [one.item for one in marked(ledger)] == [0]


def test_hidden_images_are_counted_with_what_they_take(ledger: Ledger, task: ClaimedTask) -> None:
    write(ledger, make_image_row(task, 0), link(task, 1, 0), make_image_row(task, 2))
    hide(ledger, task, 0, 1)
    with ledger.read() as connection:
        assert purging.hidden(connection) == (2, 100)
