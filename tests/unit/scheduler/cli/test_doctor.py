from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result


def test_a_home_that_is_well_passes(run: Callable[..., Result]) -> None:
    shown = run("doctor").stdout

    assert "SQLite" in shown
    assert "✗" not in shown


def test_findings_are_told_to_programs(read_json: Callable[..., Any]) -> None:
    found = read_json("doctor")

    assert {"part", "verdict", "said", "advice"} == set(found[0])
    assert {one["verdict"] for one in found} <= {"good", "warning"}


def test_a_part_that_does_not_work_is_an_exit_code_and_an_advice(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RENDERMILL_DATABASE_URL", "postgresql://u:secret@127.0.0.1:1/mill")
    monkeypatch.setenv("RENDERMILL_STORAGE_URL", f"file://{tmp_path}")

    shown = run("doctor", code=1).stdout

    assert "✗ ledger" in shown
    assert "→ start the server, or check host and port" in shown
    assert "secret" not in shown


def test_a_setting_that_cannot_work_is_one_error(
    program: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RENDERMILL_STORAGE_URL", "ftp://somewhere")

    said = program("doctor")

    assert said.code == 2
    assert "RENDERMILL_STORAGE_URL: ftp is not a store this program knows" in said.err
