"""Checking and mending a home whose files were damaged, with the fake renderer at work."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import wait_until

FAKE = ("--renderer", "fake")


@pytest.fixture
def shapes(program: Any) -> dict[str, bytes]:
    """A job of eight pictures, as they were rendered first."""
    lines = [json.dumps({"prompt": f"shape {number}", "seed": number}) for number in range(8)]
    (program.folder / "shapes.jsonl").write_text("\n".join(lines) + "\n")
    program.run("render", "shapes.jsonl", "--name", "shapes", *FAKE)
    files: dict[str, bytes] = program.files("shapes")
    assert len(files) == 8
    return files


def picture(program: Any, item: int) -> Path:
    path: Path = program.home / "renders/shapes/00000" / f"{item:09d}.png"
    return path


def damage(program: Any) -> None:
    """One of each."""
    picture(program, 0).unlink()
    picture(program, 1).write_bytes(picture(program, 1).read_bytes()[:99])
    picture(program, 2).write_bytes(bytes(picture(program, 2).stat().st_size))
    (program.home / "thumbnails/shapes/00000/000000003.webp").unlink()
    picture(program, 77).write_bytes(b"nobody's")


FOUND = [
    "object missing",
    "object swapped",
    "object truncated",
    "object without row",
    "thumbnail missing",
]


def test_everything_damaged_is_found_rendered_again_and_clean(
    program: Any, shapes: dict[str, bytes]
) -> None:
    program.run("check", "--deep")
    damage(program)

    found = json.loads(program.run("check", "--deep", "--json", code=3).stdout)
    assert sorted(found["summary"]["counts"]) == FOUND
    assert found["summary"]["left"] == 5
    said = program.run("check", "--deep", "--repair").stdout
    assert "rendermill resume shapes" in said
    program.run("resume", "shapes", *FAKE)

    program.check("shapes", items=8)
    assert program.files("shapes") == shapes
    assert "Nothing is wrong" in program.run("check", "--deep").stdout
    assert (program.home / "lost/renders/shapes/00000/000000077.png").read_bytes() == b"nobody's"


def test_a_check_that_was_killed_goes_on(program: Any, shapes: dict[str, bytes]) -> None:
    damage(program)
    slow = program.start("check", "--deep", "--rate", "0.5")
    notes = program.home / "checks"
    wait_until(
        lambda: any(file.read_bytes().count(b"place") for file in notes.glob("*.jsonl")),
        "the check notes how far it is",
    )
    slow.send_signal(signal.SIGKILL)
    slow.wait()

    found = json.loads(program.run("check", "--deep", "--json", code=3).stdout)
    assert found["summary"]["resumed"] is True
    assert sorted(found["summary"]["counts"]) == FOUND
    assert found["summary"]["looked_at"] == 8
    assert list(notes.iterdir()) == []


def test_pictures_of_this_program_are_imported_with_all_they_say(
    program: Any, shapes: dict[str, bytes]
) -> None:
    program.run("import", program.home / "renders/shapes", "--job-name", "again")

    images = program.json("images", "--job", "again")["images"]
    assert sorted(one["seed"] for one in images) == list(range(8))
    assert {one["prompt"] for one in images} == {f"shape {number}" for number in range(8)}
    assert "rendermill" in program.run("image", "again/0", "--json").stdout
    program.check("again", items=8)
    program.run("check", "--deep")
