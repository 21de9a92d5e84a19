"""``rendermill export`` and ``fetch``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from scheduler.service.home import open_home
from storage.contract.errors import InputError

Run = Callable[..., Result]
ReadJson = Callable[..., Any]

SHAPES = [f"renders/shapes/{item}.png" for item in range(4)]


def test_pictures_are_taken_out(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    query = ("job:shapes outcome:rendered", str(out))
    said = run("export", *query, "--name-template", "{tag.kind}/{prompt:.6}-{seed}.png").output
    assert said.startswith(f"{out}: 4 images, ")
    assert (out / "star" / "a red-0.png").is_file()
    assert (out / "star" / "a [bol-1.png").is_file()
    again = run("export", *query, "--name-template", "{tag.kind}/{prompt:.6}-{seed}.png")
    assert again.output == said


def test_an_export_is_told_as_json(read_json: ReadJson, tmp_path: Path) -> None:
    given = ("--format", "jsonl", "--job", "1", "--split", "a=0.5,b=0.5", "--shard-size", "2")
    done = read_json("export", "*", str(tmp_path / "out"), *given)
    assert (done["images"], done["complete"], done["format"]) == (5, True, "jsonl")
    assert done == json.loads((tmp_path / "out" / "export.json").read_text())
    assert sum(done["splits"].values()) == 5


def test_what_was_left_out_is_said(run: Run, tmp_path: Path) -> None:
    result = run("export", "job:birds", str(tmp_path / "out"), code=3)
    assert "left out: birds/0: missing" in result.stderr
    result = run("fetch", "job:birds", str(tmp_path / "copies"), code=3)
    assert "left out: birds/1: missing" in result.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["--format", "webdataset", "--shard-size", "none"],
        ["--split", "train=2"],
        ["--name-template", "{}"],
        ["--caption", "bytes"],
        ["--job", "nothing"],
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    run: Run, tmp_path: Path, options: list[str]
) -> None:
    with pytest.raises(InputError):
        run("export", "*", str(tmp_path / "out"), *options)
    assert not (tmp_path / "out").exists()


def test_a_query_that_cannot_be_read_leaves_nothing(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="widht"):
        run("export", "widht:3", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_copies_are_made_once_and_mended(run: Run, read_json: ReadJson, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    assert "4 copied" in run("fetch", "job:shapes", str(copies)).output
    names = sorted(path.relative_to(copies).as_posix() for path in copies.rglob("*.*"))
    assert names == [f"shapes/{item:09d}.png" for item in range(4)]
    (copies / names[0]).unlink()
    (copies / names[1]).write_bytes(b"")
    done = read_json("fetch", "job:shapes", str(copies))
    assert (done["copied"], done["there"]) == (2, 2)
    assert (copies / names[1]).stat().st_size > 0


def test_copies_are_held_against_the_catalog(home: Path, read_json: ReadJson, run: Run,
                                             tmp_path: Path) -> None:  # fmt: skip
    from sqlalchemy import update

    from storage.db.tables import images

    with open_home(home) as mill:
        right = hashlib.sha256(mill.store.get(SHAPES[0])).hexdigest()
        with mill.ledger.write() as connection:
            connection.execute(update(images).where(images.c.item == 0).values(sha256=right))
            connection.execute(update(images).where(images.c.item == 1).values(sha256="0" * 64))
    run("fetch", "job:shapes", str(tmp_path / "copies"), code=3)
    (tmp_path / "copies" / "shapes" / "000000000.png").write_bytes(b"damaged")
    run("fetch", "job:shapes", str(tmp_path / "copies"), code=3)
    copied = (tmp_path / "copies" / "shapes" / "000000000.png").read_bytes()
    assert hashlib.sha256(copied).hexdigest() == right
    assert not (tmp_path / "copies" / "shapes" / "000000001.png").exists()


def test_thumbnails_are_fetched(home: Path, run: Run, tmp_path: Path) -> None:
    from sqlalchemy import update

    from storage.db.tables import images

    with open_home(home) as mill:
        mill.store.put("thumbnails/shapes/2.webp", b"small")
        with mill.ledger.write() as connection:
            row = update(images).where(images.c.job_id == 1, images.c.item == 2)
            connection.execute(row.values(thumbnail_key="thumbnails/shapes/2.webp"))
    run("fetch", "*", str(tmp_path / "copies"), "--thumbnails")
    assert (tmp_path / "copies" / "shapes" / "000000002.webp").read_bytes() == b"small"
