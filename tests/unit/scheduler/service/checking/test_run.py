"""Each thing a check finds, in a folder and in S3, and how it is mended."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from PIL import Image

from scheduler.service.checking.findings import Kind
from storage.contract.keys import image_key, thumbnail_key
from storage.contract.states import JobState
from storage.db import jobs
from storage.opening import Mill
from storage.testing.factories import add_worker
from tests.unit.scheduler.service.checking.conftest import ITEMS, Checked, render

Look = Callable[..., Checked]
PICTURE = image_key("shapes", 3)
SMALL = thumbnail_key("shapes", 3)


def state_of(mill: Mill, name: str = "shapes") -> str:
    with mill.ledger.read() as connection:
        return jobs.find(connection, name).state


def render_what_is_left(mill: Mill) -> None:
    render(mill, add_worker(mill.ledger, pid=77), group_id=1)


def test_a_catalog_that_matches_its_store_is_clean(filled: Mill, look: Look) -> None:
    found = look(deep=True)
    assert found.findings == []
    assert (found.summary.looked_at, found.summary.objects) == (ITEMS, 2 * ITEMS)


def test_a_deleted_object_is_found_and_rendered_again(filled: Mill, look: Look) -> None:
    filled.store.delete([PICTURE])
    found = look()
    assert [(one.kind, one.job, one.item, one.key) for one in found.findings] == [
        (Kind.MISSING, "shapes", 3, PICTURE)
    ]
    assert (found.summary.left, state_of(filled)) == (1, JobState.FINISHED)
    assert [one.mended for one in look(repair=True).findings] == ["to be rendered again"]
    assert state_of(filled) == JobState.OPEN
    render_what_is_left(filled)
    assert state_of(filled) == JobState.FINISHED
    assert look(deep=True).findings == []


def test_a_truncated_object_is_found_and_rendered_again(filled: Mill, look: Look) -> None:
    filled.store.put(PICTURE, filled.store.get(PICTURE)[:50])
    found = look(repair=True)
    assert found.kinds == [Kind.TRUNCATED]
    assert found.findings[0].detail.startswith("50 bytes, not ")
    render_what_is_left(filled)
    assert look(deep=True).findings == []


def test_a_swapped_object_of_the_same_size_is_found_by_reading_it(filled: Mill, look: Look) -> None:
    data = bytearray(filled.store.get(PICTURE))
    data[-20] ^= 255
    filled.store.put(PICTURE, bytes(data))
    assert look().findings == []
    assert look(deep=True, repair=True).kinds == [Kind.SWAPPED]
    render_what_is_left(filled)
    assert look(deep=True).findings == []


def test_a_lost_thumbnail_is_made_from_its_picture(filled: Mill, look: Look) -> None:
    before = filled.store.get(SMALL)
    filled.store.delete([SMALL])
    found = look(repair=True)
    assert [(one.kind, one.mended) for one in found.findings] == [
        (Kind.THUMBNAIL_MISSING, "made from its picture")
    ]
    assert (filled.store.get(SMALL), state_of(filled)) == (before, JobState.FINISHED)
    assert look(deep=True).findings == []


@pytest.mark.parametrize(("data", "deep"), [(b"", False), (b"RIFF....WEBP", True)])
def test_a_damaged_thumbnail_is_made_anew(
    filled: Mill, look: Look, data: bytes, deep: bool
) -> None:
    filled.store.put(SMALL, data)
    assert look(deep=deep, repair=True).kinds == [Kind.THUMBNAIL_DAMAGED]
    Image.open(io.BytesIO(filled.store.get(SMALL))).load()
    assert look(deep=True).findings == []


def test_an_object_without_a_row_is_moved_apart_or_removed(filled: Mill, look: Look) -> None:
    keys = [image_key("shapes", 999), image_key("nobody", 1), "renders/notes.txt"]
    for key in keys:
        filled.store.put(key, b"left over")
    assert look().kinds == [Kind.ORPHAN] * 3
    assert sorted(one.key for one in look(repair=True).findings) == sorted(keys)
    assert {filled.store.get(f"lost/{key}") for key in keys} == {b"left over"}
    assert look().findings == []
    filled.store.put(keys[0], b"left over")
    assert [one.mended for one in look(repair=True, delete_orphans=True).findings] == ["removed"]
    assert filled.store.size(keys[0]) is None
