"""Pictures that are near another one, from the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image, ImageFilter, ImageOps
from typer.testing import Result

from scheduler.catalog.likeness import perceptual_hash
from scheduler.service.home import open_home
from storage.contract.errors import InputError
from storage.db.tables import images

Run = Callable[..., Result]
ReadJson = Callable[..., Any]


def drawn(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    return ImageOps.autocontrast(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(9)))


@pytest.fixture
def picture(home: Path) -> Image.Image:
    """Item 0 of ``shapes``; 1 is that one cut off a little, 2 another picture, 3 its own again."""
    one = drawn(1)
    copies = {0: one, 1: one.crop((2, 2, 256, 256)), 2: drawn(2), 3: one}
    with open_home(home) as mill, mill.ledger.write() as connection:
        for item, copy in copies.items():
            connection.execute(
                sa.update(images)
                .where(images.c.job_id == 1, images.c.item == item)
                .values(phash=perceptual_hash(copy))
            )
    return one


def names(found: Any) -> list[str]:
    return [one["image"] for one in found["images"]]


def test_near_an_image_are_its_copies_but_not_itself(
    read_json: ReadJson, picture: Image.Image
) -> None:
    found = read_json("images", "--near", "shapes/0")
    assert names(found) == ["shapes/3", "shapes/1"]
    assert found["images"][0]["distance"] == 0
    assert 0 < found["images"][1]["distance"] <= 7
    assert names(read_json("images", "--near", "shapes/0", "--within", "0")) == ["shapes/3"]


def test_near_a_file_are_the_images_that_look_like_it(
    read_json: ReadJson, picture: Image.Image, tmp_path: Path
) -> None:
    file = tmp_path / "seen.jpg"
    picture.save(file, quality=70)
    assert sorted(names(read_json("images", "--near", str(file)))) == [
        *("shapes/0", "shapes/1", "shapes/3")
    ]


def test_a_query_filters_what_is_near(read_json: ReadJson, picture: Image.Image) -> None:
    assert names(read_json("images", "blue", "--near", "shapes/0")) == ["shapes/1"]
    assert names(read_json("images", "--job", "birds", "--near", "shapes/0")) == []


def test_what_is_near_is_printed_with_its_distance(run: Run, picture: Image.Image) -> None:
    assert "distance" in run("images", "--near", "shapes/0").output
    paths = run("images", "--near", "shapes/0", "--paths").output.splitlines()
    assert [Path(path).name for path in paths] == ["3.png", "1.png"]
    assert run("images", "--near", "shapes/0", "--csv").output.count("\n") == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--near", "no/such/file.png"], "no such file"),
        (["--near", "shapes/4"], "no perceptual hash"),
        (["--near", "shapes/0", "--sort", "seed"], "--sort does not go with --near"),
        (["--near", __file__], "test_nearing.py"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    run: Run, picture: Image.Image, arguments: list[str], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        run("images", *arguments)
