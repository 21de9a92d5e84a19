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
