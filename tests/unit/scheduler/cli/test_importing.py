"""``rendermill import`` into a home."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

from tests.unit.scheduler.cli.conftest import Printed
from tests.unit.scheduler.service.importing.peers import png, write_all


def test_what_was_imported_is_told(run: Callable[..., Result], tmp_path: Path) -> None:
    write_all(tmp_path / "mine")
    (tmp_path / "mine" / "cut.png").write_bytes(png()[:50])
    said = " ".join(run("import", str(tmp_path / "mine")).output.split())
    assert "mine: 8 imported, 1 of them say nothing of how they were made" in said
    assert "1 could not be read" in said
    assert "cut.png: is no picture that can be read" in said
    assert "ComfyUI: 1" in said
    again = json.loads(run("import", str(tmp_path / "mine"), "--json").stdout)
    assert (again["job"], again["counts"]["imported"], again["counts"]["known"]) == ("mine", 0, 8)


def test_imported_images_are_listed_and_told_like_any(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    write_all(tmp_path / "mine")
    run("import", str(tmp_path / "mine"), "--job-name", "old")
    assert run("images", "--job", "old", "--json").stdout.count("a red fox") == 7
    assert "juggernaut" in run("images", "tag.program:InvokeAI", "--json").output
    for item in range(8):
        assert "imported" in run("image", f"old/{item}").output
    assert "finished" in run("job", "old").output
    sheet = tmp_path / "sheet.png"
    run("contact-sheet", "old", "-o", str(sheet))
    assert sheet.exists()


def test_an_imported_image_is_not_reproduced_as_if_it_were_rendered(
    program: Callable[..., Printed], tmp_path: Path
) -> None:
    write_all(tmp_path / "mine")
    program("import", str(tmp_path / "mine"))
    said = program("reproduce", "mine/0")
    assert (said.code, "mine/0 was imported, not rendered here" in said.err) == (2, True)
