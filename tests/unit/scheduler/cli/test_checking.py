"""``rendermill check`` on a home: its words, its JSON and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer.testing import Result


def test_what_is_wrong_is_told_with_what_to_do(run: Callable[..., Result], home: Path) -> None:
    (home / "renders/shapes/2.png").unlink()
    said = run("check", code=3).output
    assert "object missing" in said
    assert "shapes/2" in said
    assert "rendermill check --repair" in said


def test_a_shallow_check_says_what_it_cannot_see(run: Callable[..., Result]) -> None:
    assert "with other bytes of the same size shows only with --deep" in " ".join(
        run("check", "--query", "seed:99999").output.split()
    )


def test_json_has_every_finding(run: Callable[..., Result], home: Path) -> None:
    (home / "renders/shapes/2.png").unlink()
    told: Any = json.loads(run("check", "--json", code=3).stdout)
    kinds = [one["kind"] for one in told["findings"]]
    assert kinds.count("object missing") == told["summary"]["counts"]["object missing"]
    assert "object truncated" in kinds  # what this home's rows say of sizes is made up
    assert told["summary"]["left"] == len(kinds)


def test_a_finished_check_begins_anew_the_next_time(run: Callable[..., Result], home: Path) -> None:
    first = run("check", "--json", code=3).stdout
    assert run("check", "--json", code=3).stdout == first
    assert list((home / "checks").iterdir()) == []
