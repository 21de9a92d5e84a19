"""``rendermill simulate``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scheduler.cli.main import app
from storage.contract.errors import InputError

SCENARIO = """
name: small
models: {a: {gib: {resident: 6}, seconds: 1.0, load_seconds: 10}}
workers: [{kind: card, count: 4, vram_gib: 8}]
jobs:
  - {name: "[one]", deadline: 100, groups: [{model: a, items: 200}]}
  - {name: two, deadline: 1, groups: [{model: a, items: 20}]}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SCENARIO)
    return path


def test_it_says_how_far_from_the_ideal_a_fleet_is(scenario: Path) -> None:
    result = CliRunner().invoke(app, ["simulate", str(scenario)])
    assert result.exit_code == 0
    assert "220 images on 4 workers" in result.stdout
    assert "fluid bound  1 m 05 s" in result.stdout
    assert "[one]" in result.stdout
    assert "met" in result.stdout
    assert "missed" in result.stdout


def test_json_has_every_run_and_the_medians(scenario: Path) -> None:
    result = CliRunner().invoke(
        app, ["simulate", str(scenario), "--seeds", "3", "--seed", "5", "--json"]
    )
    found = json.loads(result.stdout)
    assert [run["seed"] for run in found["runs"]] == [5, 6, 7]
    assert found["summary"]["seeds"] == 3
    assert found["summary"]["bound"] == 65


def test_work_that_nobody_can_do_is_a_failure_with_its_reason(scenario: Path) -> None:
    scenario.write_text(SCENARIO.replace("vram_gib: 8", "vram_gib: 4"))
    result = CliRunner().invoke(app, ["simulate", str(scenario)])
    assert result.exit_code == 1
    assert "needs 6.0 GiB of VRAM (resident)" in result.stdout


def test_a_scenario_with_faults_is_bad_input(scenario: Path) -> None:
    scenario.write_text(SCENARIO.replace("seconds: 1.0", "seconds: 0"))
    result = CliRunner().invoke(app, ["simulate", str(scenario)])
    assert isinstance(result.exception, InputError)
    assert "models.a.seconds" in result.exception.message
