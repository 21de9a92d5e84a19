"""Comparison grids."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from PIL import Image

from scheduler.service.grid import ABSENT, Grid, arrange, check_field
from scheduler.service.grid_html import HtmlOptions, save_html, write_html
from scheduler.service.grid_page import grid_page, said_of
from storage.contract.claims import ClaimedTask
from storage.contract.errors import InputError
from storage.contract.outcomes import Outcome, Reason
from storage.db.engine import Ledger
from storage.db.images import ImageRow
from storage.objects.folder import FolderStore
from storage.objects.memory import MemoryStore
from storage.testing.factories import add_job, add_worker, cut_task, make_image_row

Make = Callable[..., ImageRow]

RED, GREEN = (255, 0, 0), (0, 255, 0)


@pytest.fixture
def task(ledger: Ledger, store: MemoryStore) -> ClaimedTask:
    add_job(ledger, store, name="shapes")
    cut = cut_task(ledger, add_worker(ledger), items=8)
    assert cut is not None
    return cut


@pytest.fixture
def row(task: ClaimedTask, store: MemoryStore) -> Make:
    """Makes a row and its picture."""

    def make(item: int, colour: tuple[int, int, int] = RED, **overrides: Any) -> ImageRow:
        made = make_image_row(task, item, **overrides)
        if made.object_key is not None:
            store.put(made.object_key, encoded(colour))
        return made

    return make


def encoded(colour: tuple[int, int, int]) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(written, "PNG")
    return written.getvalue()


def grid(rows: list[ImageRow], down: str | None, across: str | None, **more: Any) -> Grid:
    options: dict[str, Any] = {"title": "t", "rows": down, "columns": across, "limit": 400}
    return arrange([("shapes", one) for one in rows], **(options | more))


def shown(made: Grid) -> dict[tuple[str, str], int]:
    return {(made.rows[i], made.columns[j]): cell.row.item for (i, j), cell in made.cells.items()}


# Arranging


def test_a_grid_has_a_place_for_each_pair_of_values(row: Make) -> None:
    made = grid(
        [
            row(0, prompt="b", guidance_scale=12.0),
            row(1, prompt="a", guidance_scale=7.5),
            row(2, prompt="b", guidance_scale=7.5),
        ],
        "prompt",
        "cfg",
    )
    assert (made.rows, made.columns) == (["b", "a"], ["7.5", "12"])
    assert shown(made) == {("b", "12"): 0, ("a", "7.5"): 1, ("b", "7.5"): 2}


@pytest.mark.parametrize(
    ("field", "labels"),
    [
        ("tag.style", ["9", "10", ABSENT]),
        ("seed", ["0", "1", "2"]),
        ("job", ["shapes"]),
        ("mode", ["cpu", ABSENT]),
        ("created", ["1970-01-01"]),
        ("num_inference_steps", ["2"]),
    ],
)
def test_rows_are_made_of_any_field(row: Make, field: str, labels: list[str]) -> None:
    rows = [
        row(0, tags='{"Style":"10"}', rendering='{"mode":"cpu"}'),
        row(1, tags="{}"),
        row(2, tags='{"style":"9"}'),
    ]
    assert grid(rows, field, None).rows == labels


def test_a_rendered_image_comes_before_a_failed_one(row: Make) -> None:
    failed = row(0, outcome=Outcome.FAILED, reason=Reason.NAN, object_key=None)
    made = grid([failed, row(1), row(2)], "model", "width")
    [cell] = made.cells.values()
    assert (cell.row.item, cell.images) == (1, 3)


def test_without_one_field_images_follow_one_another(row: Make) -> None:
    rows = [row(item, prompt="ab"[item % 2]) for item in range(5)]
    made = grid(rows, "prompt", None)
    assert sorted(made.cells) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    turned = grid(rows, None, "prompt")
    assert sorted(turned.cells) == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
    plain = grid(rows, None, None, wide=2)
    assert [cell.row.item for cell in plain.cells.values()] == [0, 1, 2, 3, 4]
    assert (len(plain.rows), len(plain.columns)) == (3, 2)


def test_what_there_is_no_room_for_is_said(row: Make) -> None:
    made = grid([row(item, prompt=str(item % 2)) for item in range(8)], "seed", "prompt", limit=6)
    assert (len(made.rows), len(made.columns), made.more_rows) == (3, 2, 5)
    assert "5 more rows not shown" in said_of(made)


@pytest.mark.parametrize("name", ["colour", "worker", "hidden", "tag.", ""])
def test_what_no_grid_is_made_of_is_said(name: str) -> None:
    with pytest.raises(InputError, match=r"--rows .*no such field"):
        check_field(name, "--rows")


def test_nothing_to_show_is_an_error() -> None:
    with pytest.raises(InputError, match="nothing to show"):
        grid([], "prompt", None)


# As a picture


def test_pictures_stand_where_their_values_meet(row: Make, store: MemoryStore) -> None:
    made = grid([row(0, RED, seed=1, width=8), row(1, GREEN, seed=2, width=16)], "seed", "width")
    page = grid_page(made, store, cell=64)
    boxes = [_box(page, colour) for colour in (RED, GREEN)]
    assert [(right - left, low - top) for left, top, right, low in boxes] == [(64, 64)] * 2
    assert boxes[0][0] < boxes[1][0]
    assert boxes[0][1] < boxes[1][1]


def _box(page: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    mask = Image.new("1", page.size)
    mask.putdata([one == colour for one in page.get_flattened_data()])
    box = mask.getbbox()
    assert box is not None
    return box


@pytest.mark.parametrize("prompt", ["W" * 3000, "日本 " * 300, "", "a\0\x1b[31m\n b", "é" * 400])
def test_any_text_is_written_within_the_page(row: Make, store: MemoryStore, prompt: str) -> None:
    for fields in (("prompt", "seed"), ("seed", "prompt")):
        page = grid_page(grid([row(0, prompt=prompt)], *fields), store, cell=64)
        left, top, right, low = _box(page, RED)
        edges = page.crop((page.width - 2, 0, page.width, page.height))
        assert edges.getcolors() == [(2 * page.height, (250, 250, 248))]
        assert (right - left, low - top) == (64, 64)


def test_a_page_that_would_fill_the_memory_is_an_error(row: Make, store: MemoryStore) -> None:
    one = row(0)
    rows = [msgspec.structs.replace(one, item=n, seed=n // 20, row=n % 20) for n in range(400)]
    with pytest.raises(InputError, match="too large"):
        grid_page(grid(rows, "seed", "row"), store, cell=1024)


# As HTML


class Page(HTMLParser):
    """What there is in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def html(made: Grid, store: Any, **options: Any) -> str:
    file = io.BytesIO()
    write_html(made, store, HtmlOptions(**options), file)
    return file.getvalue().decode()


EVIL = "</script><img src=x onerror=alert(1)> \"quoted\" & 'single' \ud83d"


def test_a_page_holds_its_pictures_and_facts(row: Make, store: MemoryStore) -> None:
    text = html(grid([row(0, GREEN, prompt="a fox"), row(1)], "prompt", "seed"), store)
    page = Page(text)
    assert not re.search(r'(?:src|href)="(?!data:)', text)
    [first, *_] = [one["src"] for one in page.of("img") if one.get("src")]
    data = base64.b64decode(str(first).partition("base64,")[2])
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.size == (64, 64)
        pixel = picture.convert("RGB").getpixel((32, 32))
    assert isinstance(pixel, tuple)
    assert pixel[1] > 240 > 30 > pixel[0]
    about = json.loads(str(page.of("button")[0]["data-about"]))
    assert (about["image"], about["prompt"], about["seed"]) == ("shapes/0", "a fox", 0)


def test_the_thumbnail_is_held_where_there_is_one(row: Make, store: MemoryStore) -> None:
    store.put("thumbnails/x.webp", b"small")
    made = grid([row(0, thumbnail_key="thumbnails/x.webp")], "seed", None)
    small = base64.b64encode(b"small").decode()
    assert f'src="data:image/webp;base64,{small}"' in html(made, store)


def test_what_prompts_hold_stays_text(row: Make, store: MemoryStore) -> None:
    made = grid([row(0, prompt=EVIL, tags=json.dumps({"a": EVIL[:-1]}))], "prompt", "tag.a")
    made = msgspec.structs.replace(made, title=EVIL)
    page = Page(html(made, store))
    assert len(page.of("script")) == 1
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert json.loads(str(page.of("button")[0]["data-about"]))["prompt"].startswith("</script>")


def test_failures_and_losses_have_a_place(row: Make, store: MemoryStore) -> None:
    failed = row(0, outcome=Outcome.FAILED, reason=Reason.NAN, object_key=None)
    lost = row(1)
    store.delete([str(lost.object_key)])
    text = html(grid([failed, lost], "seed", None), store)
    assert '<span class="none">failed: nan</span>' in text
    assert '<span class="none">missing</span>' in text


def test_a_page_may_link_its_pictures(row: Make, tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    made = grid([row(0)], "seed", None)
    text = html(made, store, link=True)
    assert f'src="{(tmp_path / "renders/shapes/0.png").as_uri()}"' in text


def test_a_page_that_cannot_be_written_is_a_clear_error(
    row: Make, store: MemoryStore, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="cannot write"):
        save_html(grid([row(0)], "seed", None), store, HtmlOptions(), tmp_path / "no" / "a.html")
