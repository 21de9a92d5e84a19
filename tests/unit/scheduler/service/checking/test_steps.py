"""How a check goes about it, and what it leaves alone; in a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from scheduler.service.checking.findings import Kind, Wanted
from scheduler.service.checking.journal import Journal, Place
from scheduler.service.checking.run import check
from storage.contract.errors import InputError
from storage.contract.keys import image_key, thumbnail_key
from storage.contract.states import JobState
from storage.db import images as rows
from storage.db import jobs, links, steering
from storage.db.tables import groups, images, shards
from storage.db.tables import jobs as jobs_table
from storage.opening import Mill
from storage.testing.factories import add_job, add_worker, cut_task, make_item, make_spec
from tests.unit.scheduler.service.checking.conftest import ITEMS, Checked, fill, render

Look = Callable[..., Checked]
PICTURE = image_key("shapes", 3)
SMALL = thumbnail_key("shapes", 3)


@pytest.fixture
def mill(folder_mill: Mill) -> Mill:
    """An empty mill whose objects lie in a folder."""
    return folder_mill


def state_of(mill: Mill, name: str = "shapes") -> str:
    with mill.ledger.read() as connection:
        return jobs.find(connection, name).state


def render_what_is_left(mill: Mill) -> None:
    render(mill, add_worker(mill.ledger, pid=77), group_id=1)


def test_objects_of_a_job_that_goes_on_are_left_alone(mill: Mill, look: Look) -> None:
    add_job(mill.ledger, mill.store, name="shapes")
    mill.store.put(PICTURE, b"not recorded yet")
    assert look().findings == []
    assert cut_task(mill.ledger, add_worker(mill.ledger)) is not None
    with mill.ledger.write() as connection:
        steering.cancel(connection, 1, now=1.0)
    assert look().findings == []  # its task is under way


def test_images_whose_job_is_gone_are_found_and_removed(filled: Mill, look: Look) -> None:
    filled.store.put(PICTURE.replace("shapes", "nobody"), b"of a job that is gone")
    with filled.ledger.write() as connection:
        moved = sa.func.replace(images.c.object_key, "shapes", "nobody")
        connection.execute(sa.update(images).values(job_id=77, object_key=moved))
    assert look().kinds.count(Kind.JOB_GONE) == 1
    found = look(repair=True)
    assert (set(found.kinds), found.summary.left) == ({Kind.JOB_GONE, Kind.ORPHAN}, 0)
    assert list(filled.store.keys("renders/")) == []
    assert filled.store.size(f"lost/{PICTURE}".replace("shapes", "nobody")) == 21
    assert look().findings == []
    with filled.ledger.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(images)).scalar() == 0


def test_what_cannot_be_rendered_again_is_left_and_said(filled: Mill, look: Look) -> None:
    with filled.ledger.read() as connection:
        key = connection.execute(sa.select(shards.c.object_key)).scalar_one()
    filled.store.delete([key, PICTURE])
    found = look(repair=True)
    assert [one.left for one in found.findings] == ["what it was rendered from is gone too"]
    assert (found.summary.left, state_of(filled)) == (1, JobState.FINISHED)


def test_an_item_to_be_rendered_again_has_no_row_and_is_counted_once(
    filled: Mill, look: Look
) -> None:
    filled.store.delete([PICTURE, SMALL])
    look(repair=True)
    with filled.ledger.read() as connection:
        group = connection.execute(sa.select(groups)).one()
        job = connection.execute(sa.select(jobs_table)).one()
        rows = connection.execute(sa.select(images.c.item)).scalars().all()
    assert (group.done, group.claimable, group.leased) == (ITEMS - 1, 1, 0)
    assert (job.done, job.state, 3 in rows) == (ITEMS - 1, JobState.OPEN, False)
    assert look(repair=True).findings == []


def test_only_the_job_named_is_looked_at(filled: Mill, look: Look) -> None:
    fill(filled, "birds", 2)
    filled.store.delete([PICTURE, image_key("birds", 0)])
    assert [one.job for one in look(job="birds").findings] == ["birds"]


def test_only_images_that_match_are_looked_at(filled: Mill, look: Look) -> None:
    filled.store.delete([PICTURE, image_key("shapes", 4)])
    found = look(query="seed:3")
    assert [one.item for one in found.findings] == [3]
    assert found.summary.looked_at == 1


def test_an_interrupted_check_goes_on_where_it_was(mill: Mill) -> None:
    for name in ("one", "two2", "three"):
        fill(mill, name, 2)
        mill.store.delete([image_key(name, 0)])
    wanted = Wanted()

    class Killed(Exception):
        pass

    def kill(place: Place) -> None:
        if place.looked_at:
            raise Killed

    with Journal(mill.home, wanted) as journal, pytest.raises(Killed):
        check(mill, wanted, journal, told=kill)
    with open(journal.path, "ab") as file:
        file.write(b'{"finding": {"kind"')  # cut in half
    with Journal(mill.home, wanted) as journal:
        assert (journal.resumed, journal.place.looked_at) == (True, 2)
        summary = check(mill, wanted, journal)
        assert [one.job for one in journal.findings()] == ["one", "two2", "three"]
    assert (summary.resumed, summary.looked_at) == (True, 6)


def test_the_same_check_runs_once_at_a_time(mill: Mill) -> None:
    with Journal(mill.home, Wanted()), pytest.raises(InputError, match="under way"):
        Journal(mill.home, Wanted())


def link(mill: Mill, name: str, item: int) -> None:
    """A finished job of one item, which is linked to that item of the first job."""
    job = add_job(mill.ledger, mill.store, [make_item(item)], name=name)
    with mill.ledger.write() as connection:
        source = next(rows.of_items(connection, 1, [item]))
        spec = make_spec()
        (group,) = links.groups_of(connection, job.id, [spec])
        links.write(connection, [links.link_row(job.id, group, 0, make_item(item), source)])
        links.settle(connection, job.id, {group.id: []}, {group.id: 1}, now=2.0)


def test_a_link_is_mended_by_its_original(filled: Mill, look: Look) -> None:
    link(filled, "again", 3)
    assert look(deep=True).findings == []
    filled.store.delete([PICTURE])
    assert [(one.job, one.mended) for one in look(repair=True).findings] == [
        ("shapes", "to be rendered again"),
        ("again", "its original is to be rendered again"),
    ]
    render_what_is_left(filled)
    assert look(deep=True).findings == []


def test_a_link_alone_has_its_original_rendered_again(filled: Mill, look: Look) -> None:
    link(filled, "again", 3)
    filled.store.delete([PICTURE])
    assert [one.mended for one in look(job="again", repair=True).findings] == [
        "its original is to be rendered again"
    ]
    assert (state_of(filled), state_of(filled, "again")) == (JobState.OPEN, JobState.FINISHED)
    render_what_is_left(filled)
    assert look(deep=True).findings == []


def test_a_link_takes_what_its_original_has_become(filled: Mill, look: Look) -> None:
    link(filled, "again", 3)
    with filled.ledger.write() as connection:  # as if rendered on another kind of device
        filled.store.put(PICTURE, b"other pixels")
        changed = {"bytes": 12, "sha256": hashlib.sha256(b"other pixels").hexdigest()}
        connection.execute(
            sa.update(images).where(images.c.job_id == 1, images.c.item == 3).values(**changed)
        )
    found = look(deep=True, repair=True)
    assert [(one.job, one.mended) for one in found.findings] == [
        ("again", "it takes what its original has become")
    ]
    assert look(deep=True).findings == []


def test_a_link_whose_original_is_gone_is_rendered_by_itself(filled: Mill, look: Look) -> None:
    link(filled, "again", 3)
    with filled.ledger.write() as connection:
        connection.execute(sa.delete(images).where(images.c.job_id == 1, images.c.item == 3))
    assert look().findings == []  # the link names the object still
    filled.store.delete([PICTURE, SMALL])
    assert {(one.job, one.mended) for one in look(repair=True).findings} == {
        ("again", "to be rendered again")
    }
    assert state_of(filled, "again") == JobState.OPEN


def test_objects_of_hidden_images_are_neither_missed_nor_left_over(
    filled: Mill, look: Look
) -> None:
    filled.store.delete([PICTURE])
    with filled.ledger.write() as connection:
        connection.execute(sa.update(images).values(hidden_at=5.0))
    assert look(deep=True).findings == []
