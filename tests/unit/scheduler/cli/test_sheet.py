"""``rendermill contact-sheet``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import Result

from scheduler.service.home import open_home
from storage.testing.factories import add_job

Run = Callable[..., Result]

RED = (255, 0, 0)


def red_pixels(path: Path) -> int:
    with Image.open(path) as page:
        counted = page.getcolors(page.width * page.height)
    assert counted is not None
    return sum(count for count, colour in counted if colour == RED)


@pytest.mark.parametrize(
    ("options", "shown", "pictures"),
    [
        ([], 5, 4),
        (["--limit", "3"], 2, 1),  # of items 0, 4 and 7: one is rendered, one failed, one undone
        (["--limit", "1"], 1, 1),
        (["--columns", "1"], 5, 4),
    ],
)
def test_a_sheet_shows_what_there_is_of_a_job(
    run: Run, tmp_path: Path, options: list[str], shown: int, pictures: int
) -> None:
    output = tmp_path / "[red]sheet.png"
    said = run("contact-sheet", "shapes", "-o", str(output), "--cell", "64", *options).stdout
    assert red_pixels(output) == pictures * 64 * 64
    assert said.startswith(f"{output}: {shown} of 8 images, ")


def test_a_sheet_that_cannot_be_written_is_a_clear_error(
    program: Callable[..., Any], tmp_path: Path
) -> None:
    printed = program("contact-sheet", "shapes", "-o", str(tmp_path / "no" / "sheet.png"))
    assert printed.code == 2
    assert "cannot write" in printed.err


def test_a_job_without_an_outcome_has_nothing_to_show(
    program: Callable[..., Any], home: Path, tmp_path: Path
) -> None:
    with open_home(home) as opened:
        add_job(opened.ledger, opened.store, name="new")
    printed = program("contact-sheet", "new", "-o", str(tmp_path / "sheet.png"))
    assert printed.code == 2
    assert printed.err.startswith("error: there is nothing to show")


# Of a query


def test_a_query_is_put_on_a_page(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "sheet.png"
    said = run("contact-sheet", "job:shapes star", "-o", str(output), "--cell", "64").stdout
    assert said.startswith(f"{output}: 2 of 2 images, ")
    assert red_pixels(output) == 2 * 64 * 64


def test_a_grid_is_made_of_two_fields(run: Run, tmp_path: Path) -> None:
    output = tmp_path / "grid.png"
    fields = ("--rows", "tag.kind", "--columns", "seed", "--cell", "64")
    said = run("contact-sheet", "outcome:rendered job:shapes", "-o", str(output), *fields).stdout
    assert said.startswith(f"{output}: 4 of 4 images, ")
    assert red_pixels(output) == 4 * 64 * 64


@pytest.mark.parametrize("fields", [[], ["--rows", "prompt"], ["--columns", "3"]])
def test_a_page_may_be_html(run: Run, tmp_path: Path, fields: list[str]) -> None:
    output = tmp_path / "grid.html"
    run("contact-sheet", "shapes", "-o", str(output), *fields)
    text = output.read_text()
    assert text.count("<button ") == 5
    assert text.count("data:image/webp;base64,") == 4


@pytest.mark.parametrize(
    "options", [["--columns", "0"], ["--columns", "101"], ["--columns", "x"], ["--rows", "y"]]
)
def test_what_a_page_cannot_have_is_bad_input(
    program: Callable[..., Any], tmp_path: Path, options: list[str]
) -> None:
    printed = program("contact-sheet", "*", "-o", str(tmp_path / "sheet.png"), *options)
    assert printed.code == 2
    assert options[0] in printed.err
