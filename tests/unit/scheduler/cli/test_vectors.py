"""Searching by meaning, from the command line to the process that loads the model."""

from __future__ import annotations

import io
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from PIL import Image
from typer.testing import Result

from scheduler.service.home import open_home
from storage.contract.errors import InputError
from storage.db.tables import images
from tests.models.embedding import save_clip
from workers import embed

Run = Callable[..., Result]
ReadJson = Callable[..., Any]

PROMPTS = {
    1: "a solitary beacon above the sea in the evening",
    2: "a bowl of noodle soup on a table",
    3: "a fast car in the city",
}


@pytest.fixture(scope="module")
def built_home(tmp_path_factory: pytest.TempPathFactory, filled_home: Path) -> Path:
    """The home of the other tests with vectors of its prompts, made once."""
    path = tmp_path_factory.mktemp("built") / "home"
    shutil.copytree(filled_home, path)
    with open_home(path) as mill, mill.ledger.write() as connection:
        for item, prompt in PROMPTS.items():
            connection.execute(
                sa.update(images)
                .where(images.c.job_id == 1, images.c.item == item)
                .values(prompt=prompt)
            )
    return path


@pytest.fixture
def home(tmp_path: Path, built_home: Path) -> Path:
    return Path(shutil.copytree(built_home, tmp_path / "home"))


def names(found: Any) -> list[str]:
    return [one["image"] for one in found["images"]]


def test_prompts_are_found_by_what_they_mean(run: Run, read_json: ReadJson) -> None:
    with pytest.raises(InputError, match="off"):
        run("images", "--semantic", "a lonely lighthouse at dusk")
    run("vectors", "enable")
    (told,) = read_json("vectors", "build")
    assert (told["done"], told["due"], told["unseen"], told["model"]) == (6, 0, 0, "wordllama")

    found = read_json("images", "--semantic", "a lonely lighthouse at dusk", "--limit", "3")
    assert names(found)[0] == "shapes/1"
    distances = [one["distance"] for one in found["images"]]
    assert distances == sorted(distances)
    among = read_json("images", "NOT beacon", "--semantic", "a warm meal with broth")
    assert names(among)[0] == "shapes/2"
    assert "shapes/1" not in names(among)
    assert names(read_json("images", "--semantic", "soup", "--job", "birds")) == [
        *("birds/1", "birds/0")
    ]
    assert "wordllama" in run("vectors", "status").output
    assert "6 of prompts by wordllama, 0 to come" in run("doctor").output.replace("\n", " ")
    run("vectors", "disable")
    assert read_json("vectors", "status") == []


def test_pictures_are_found_by_a_clip_model(
    run: Run, read_json: ReadJson, home: Path, tmp_path: Path
) -> None:
    clip = tmp_path / "clip"
    clip.mkdir()
    save_clip(clip)
    colors = {0: "red", 1: "darkred", 2: "blue", 3: "red"}
    with open_home(home) as mill, mill.ledger.write() as connection:
        for item, color in colors.items():
            written = io.BytesIO()
            Image.new("RGB", (64, 64), color).save(written, "PNG")
            mill.store.put(f"renders/shapes/{item}.png", written.getvalue())
            connection.execute(
                sa.update(images)
                .where(images.c.job_id == 1, images.c.item == item)
                .values(pixels_sha256=f"{len(color):064x}"[::-1], phash=1)
            )
        connection.execute(sa.update(images).where(images.c.job_id == 2).values(object_key=None))
    run("vectors", "enable", str(clip), "--pictures")
    embed.build(home, threading.Event())
    (told,) = read_json("vectors", "status")
    assert (told["done"], told["faults"], told["due"]) == (3, 0, 0)

    found = read_json("images", "--near", "shapes/0")
    assert names(found) == ["shapes/3", "shapes/1", "shapes/2"]
    assert found["images"][0]["distance"] == pytest.approx(0, abs=1e-3)
    assert len(names(read_json("images", "--near", "shapes/0", "--within", "0"))) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["vectors", "build"], "not enabled"),
        (["vectors", "enable", "--pictures"], "knows words only"),
        (["images", "--near", "shapes/0", "--semantic", "x"], "both sort"),
        (["images", "--semantic", "x", "--count", "about"], "--count does not go with --semantic"),
    ],
)
def test_what_makes_no_sense_is_refused(run: Run, arguments: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        run(*arguments)


def test_a_model_that_cannot_be_loaded_is_said_with_its_name(
    run: Run, program: Callable[..., Any], tmp_path: Path
) -> None:
    run("vectors", "enable", str(tmp_path))
    ended = program("vectors", "build")
    assert ended.code == 1
    assert f"embedding model {tmp_path}" in ended.err.replace("\n", "")
