"""Contact sheets."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from scheduler.service.contact import Layout, contact_sheet, rows_of_job, save, spread
from storage.contract.claims import ClaimedTask
from storage.contract.errors import InputError
from storage.contract.outcomes import Outcome, Reason
from storage.db import tasks
from storage.db.engine import Ledger
from storage.db.images import ImageRow
from storage.objects.memory import MemoryStore
from storage.testing.factories import (
    add_job,
    add_worker,
    cut_task,
    make_image_row,
    ref_of,
)

Colour = tuple[int, int, int]

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
LAYOUT = Layout(title="shapes", of=3)


@pytest.fixture
def task(ledger: Ledger, store: MemoryStore) -> ClaimedTask:
    """All items of a job of eight."""
    add_job(ledger, store, name="shapes")
    cut = cut_task(ledger, add_worker(ledger), items=8)
    assert cut is not None
    return cut


@pytest.fixture
def picture(task: ClaimedTask, store: MemoryStore) -> Callable[..., ImageRow]:
    """Makes a picture of one colour, and its row."""

    def make(
        item: int, colour: Colour, *, size: tuple[int, int] = (64, 64), **overrides: Any
    ) -> ImageRow:
        row = make_image_row(task, item, width=size[0], height=size[1], **overrides)
        written = io.BytesIO()
        Image.new("RGB", size, colour).save(written, "PNG")
        store.put(str(row.object_key), written.getvalue())
        return row

    return make


def pixels(page: Image.Image, colour: Colour) -> int:
    counted = page.getcolors(page.width * page.height)
    assert counted is not None
    return sum(count for count, one in counted if one == colour)


def place(page: Image.Image, colour: Colour) -> tuple[int, int]:
    """The upper left corner of what has that colour."""
    mask = Image.new("1", page.size)
    data = [one == colour for one in page.get_flattened_data()]
    mask.putdata(data)
    box = mask.getbbox()
    assert box is not None
    return box[:2]


# Which pictures


@given(st.integers(0, 5000), st.integers(1, 400))
def test_a_spread_is_even_ordered_and_has_the_ends(count: int, most: int) -> None:
    chosen = spread(count, most)
    assert len(chosen) == len(set(chosen)) == min(count, most)
    assert chosen == sorted(chosen)
    assert all(0 <= item < count for item in chosen)
    if len(chosen) > 1:
        assert (chosen[0], chosen[-1]) == (0, count - 1)
        gaps = [after - before for before, after in itertools.pairwise(chosen)]
        assert max(gaps) - min(gaps) <= 1


def test_a_spread_of_one_is_the_first() -> None:
    assert spread(100, 1) == [0]


def test_items_without_an_outcome_have_no_row(ledger: Ledger, task: ClaimedTask) -> None:
    rows = [make_image_row(task, item) for item in (1, 4, 5)]
    with ledger.write() as connection:
        tasks.commit(connection, ref_of(task), rows, expires_at=99.0, now=2.0)
    found = rows_of_job(ledger, task.job_id, [0, 1, 2, 5, 7])
    assert [row.item for row in found] == [1, 5]


# The page


def test_pictures_stand_in_rows_at_the_size_of_their_cells(
    store: MemoryStore, picture: Callable[..., ImageRow]
) -> None:
    rows = [picture(0, RED), picture(1, GREEN), picture(2, BLUE)]
    layout = Layout(title="shapes", of=3, columns=2, cell=96)
    page = contact_sheet(rows, layout, store)
    assert [pixels(page, colour) for colour in (RED, GREEN, BLUE)] == [96 * 96] * 3
    red, green, blue = (place(page, colour) for colour in (RED, GREEN, BLUE))
    assert red[1] == green[1] < blue[1]
    assert red[0] == blue[0] < green[0]
    assert page.width < 3 * 96 < page.height


@pytest.mark.parametrize(
    ("size", "shown"), [((128, 64), (96, 48)), ((64, 128), (48, 96)), ((640, 8), (96, 1))]
)
def test_a_picture_keeps_its_shape_in_the_middle_of_its_cell(
    store: MemoryStore,
    picture: Callable[..., ImageRow],
    size: tuple[int, int],
    shown: tuple[int, int],
) -> None:
    alone = contact_sheet([picture(0, RED)], Layout(title="", of=1, cell=96), store)
    page = contact_sheet([picture(1, BLUE, size=size)], Layout(title="", of=1, cell=96), store)
    assert pixels(page, BLUE) == shown[0] * shown[1]
    left, top = place(alone, RED)
    assert place(page, BLUE) == (left + (96 - shown[0]) // 2, top + (96 - shown[1]) // 2)


@pytest.mark.parametrize(("cell", "colour"), [(32, GREEN), (64, RED), (128, RED)])
def test_the_thumbnail_does_where_it_is_large_enough(
    store: MemoryStore, picture: Callable[..., ImageRow], cell: int, colour: Colour
) -> None:
    row = picture(0, RED, thumbnail_key="thumbnails/shapes/0.webp")
    written = io.BytesIO()
    Image.new("RGB", (48, 48), GREEN).save(written, "PNG")
    store.put("thumbnails/shapes/0.webp", written.getvalue())
    page = contact_sheet([row], Layout(title="", of=1, cell=cell), store)
    assert pixels(page, colour) == cell * cell


def test_failures_and_losses_have_a_cell_too(
    store: MemoryStore, picture: Callable[..., ImageRow], task: ClaimedTask
) -> None:
    failed = make_image_row(task, 1, outcome=Outcome.FAILED, reason=Reason.NAN, object_key=None)
    lost, damaged = make_image_row(task, 2), picture(3, GREEN)
    store.put(str(damaged.object_key), b"no picture")
    rows = [picture(0, RED), failed, lost, damaged, picture(4, BLUE)]
    page = contact_sheet(rows, Layout(title="", of=5, columns=5, cell=96), store)
    assert [pixels(page, colour) for colour in (RED, GREEN, BLUE)] == [96 * 96, 0, 96 * 96]
    # Each of the three has a cell of its own colour, less what is written on it.
    ground = page.getpixel((place(page, RED)[0] + (96 + 12) + 2, place(page, RED)[1] + 2))
    assert isinstance(ground, tuple)
    assert 3 * 96 * 80 < pixels(page, (ground[0], ground[1], ground[2])) < 3 * 96 * 96


@pytest.mark.parametrize(
    "prompt", ["W" * 3000, "W " * 3000, "日本" * 500, "", "a\nb\tc", "\x00\x1b[31m", "é" * 400]
)
def test_a_caption_never_leaves_its_cell(
    store: MemoryStore, picture: Callable[..., ImageRow], prompt: str
) -> None:
    page = contact_sheet(
        [picture(0, RED, prompt=prompt)], Layout(title="", of=1, columns=1, cell=96), store
    )
    right = page.crop((place(page, RED)[0] + 96 + 2, 0, page.width, page.height))
    assert right.getcolors() == [(right.width * right.height, (250, 250, 248))]


def test_a_page_is_about_as_wide_as_high_but_no_wider_than_a_screen(
    store: MemoryStore, picture: Callable[..., ImageRow]
) -> None:
    rows = [picture(0, RED)] * 100
    page = contact_sheet(rows, Layout(title="shapes", of=100, cell=64), store)
    assert 0.6 < page.width / page.height < 1.6
    assert contact_sheet(rows, Layout(title="shapes", of=100, cell=200), store).width <= 2400


def test_nothing_to_show_is_an_error(store: MemoryStore) -> None:
    with pytest.raises(InputError, match="there is nothing to show"):
        contact_sheet([], LAYOUT, store)


def test_a_page_that_would_fill_the_memory_is_an_error(
    store: MemoryStore, task: ClaimedTask
) -> None:
    rows = [make_image_row(task, 0)] * 2000
    with pytest.raises(InputError, match=r"a page of .* pixels is too large") as caught:
        contact_sheet(rows, Layout(title="", of=2000, cell=1024), store)
    assert caught.value.hint is not None


# Saving


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_the_name_of_the_file_is_its_format(tmp_path: Path, name: str) -> None:
    save(Image.new("RGB", (8, 8), RED), tmp_path / name)
    with Image.open(tmp_path / name) as opened:
        assert opened.size == (8, 8)


@pytest.mark.parametrize(
    ("name", "said"),
    [("a", "unknown file extension"), ("a.xyz", "unknown file extension"), ("no/a.png", "No such")],
)
def test_a_page_that_cannot_be_written_is_a_clear_error(
    tmp_path: Path, name: str, said: str
) -> None:
    with pytest.raises(InputError, match=f"cannot write .*{said}"):
        save(Image.new("RGB", (8, 8), RED), tmp_path / name)


def test_a_page_larger_than_its_format_allows_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write "):
        save(Image.new("RGB", (20_000, 8), RED), tmp_path / "a.webp")
