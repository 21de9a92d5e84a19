"""Every image knows where it comes from."""

from __future__ import annotations

from typing import Any

import pytest

from scheduler.service.descent import descent_of
from storage.contract.claims import ClaimedTask
from storage.contract.lineage import Lineage
from storage.db import images, origins
from storage.db.engine import Ledger
from storage.testing.factories import add_groups, add_worker, cut_task, make_image_row

PICTURE = f"inputs/{'a' * 64}.png"
OTHER = f"inputs/{'b' * 64}.png"


@pytest.fixture
def task(ledger: Ledger) -> ClaimedTask:
    """A task of four items."""
    group_id = add_groups(ledger, (4, 1), name="job").id
    task = cut_task(ledger, add_worker(ledger, pid=9), items=4, group_id=group_id)
    assert task
    return task


def told(ledger: Ledger, task: ClaimedTask, item: int = 0, **overrides: Any) -> dict[str, Any]:
    with ledger.write() as connection:
        images.insert(connection, [make_image_row(task, item, **overrides)])
    with ledger.read() as connection:
        return descent_of(connection, images.get(connection, "job", item))


def test_an_image_knows_its_worker_and_how_it_was_rendered(
    ledger: Ledger, task: ClaimedTask
) -> None:
    lineage = Lineage(template="{a|b}", attempts=3, phase_seconds={"denoise": 1.5}, licence="mit")
    found = told(ledger, task, lineage=lineage.encode())
    assert (found["worker"], found["attempts"], found["licence"]) == ("testhost/cpu#9", 3, "mit")
    assert (found["template"], found["phase_seconds"]) == ("{a|b}", {"denoise": 1.5})
    assert found["parents"] == {}


def test_an_image_without_a_lineage_is_one_of_before(ledger: Ledger, task: ClaimedTask) -> None:
    found = told(ledger, task)
    assert (found["worker"], found["attempts"], found["template"]) == ("testhost/cpu#9", 1, None)


def test_an_image_that_failed_says_no_attempts(ledger: Ledger, task: ClaimedTask) -> None:
    assert told(ledger, task, object_key=None)["attempts"] is None


def test_a_link_knows_the_image_that_was_rendered(ledger: Ledger, task: ClaimedTask) -> None:
    found = told(ledger, task, linked_job=task.job_id, linked_item=3)
    assert found["parents"] == {"linked": "job/3"}


def test_an_image_knows_the_images_it_was_made_from(ledger: Ledger, task: ClaimedTask) -> None:
    with ledger.write() as connection:
        origins.note(connection, {PICTURE: "old/7"})
        origins.note(connection, {PICTURE: "older/9"})
        origins.note(connection, {})
    found = told(ledger, task, lineage=Lineage(pictures=(PICTURE, OTHER)).encode())
    assert found["parents"] == {"made_from": ["old/7"]}
    assert found["pictures"] == [PICTURE, OTHER]


def test_the_last_of_a_worker_and_a_job_that_are_not_there_is_nothing(ledger: Ledger) -> None:
    with ledger.read() as connection:
        assert origins.worker_of(connection, 99) is None
        assert origins.job_of(connection, 99) is None
