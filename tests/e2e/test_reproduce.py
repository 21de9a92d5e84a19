"""``rendermill reproduce``: the same picture again, from the catalog and from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

MANIFEST = "a red circle on a white background\na blue star on a black background\n" * 3


@pytest.fixture
def rendered(program: Any) -> Path:
    """Six pictures by the starter model; one of their files."""
    manifest = program.folder / "prompts.txt"
    manifest.write_text(MANIFEST)
    program.run("render", manifest, "--name", "six", "--set", "steps=2", "--threads", "1")
    return Path(program.home) / "renders/six/00000/000000004.png"


@pytest.mark.slow
def test_an_image_of_the_catalog_comes_out_equal(program: Any, rendered: Path) -> None:
    again = program.folder / "again.png"
    done = program.run("reproduce", "six/4", "-o", again, "--json")
    told = json.loads(done.stdout)
    assert told["verdict"] == "equal"
    assert told["changed_facts"] == []
    with Image.open(again) as new, Image.open(rendered) as old:
        assert new.tobytes() == old.tobytes()
    assert len(json.loads(program.run("jobs", "--json").stdout)) == 1, "the catalog stays as it is"


@pytest.mark.slow
def test_a_file_anywhere_is_made_again_from_its_own_metadata(
    program: Any, rendered: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "found-somewhere.png"
    alone.write_bytes(rendered.read_bytes())
    nowhere = program.folder / "no-home"
    said = program.run("reproduce", alone, "--home", nowhere).stdout
    assert "every pixel is the same" in said


@pytest.mark.slow
def test_a_picture_that_was_changed_is_said_to_differ(
    program: Any, rendered: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "painted-over.png"
    with Image.open(rendered) as picture:
        texts = PngImagePlugin.PngInfo()
        texts.add_text("rendermill", picture.info["rendermill"])
        picture.paste((1, 2, 3), (0, 0, 9, 9))
        picture.save(changed, pnginfo=texts)
    said = program.run("reproduce", changed, code=3).stdout
    assert "differs" in said
    assert "of 255 levels" in said
    assert "Nothing that is recorded" in said


def test_a_picture_without_metadata_says_what_to_do(program: Any, tmp_path: Path) -> None:
    bare = tmp_path / "bare.png"
    Image.new("RGB", (8, 8)).save(bare)
    done = program.run("reproduce", bare, code=2)
    assert "does not say how it was made" in done.stderr
    assert "JOB/ITEM" in done.stderr


def test_something_that_is_neither_file_nor_image_is_refused(program: Any) -> None:
    Path(program.home).mkdir(parents=True, exist_ok=True)
    done = program.run("reproduce", "nothing-at-all", code=None)
    assert done.returncode in (1, 2)
    assert "error" in done.stderr
