"""The README must stay true."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import scheduler
from scheduler.cli.main import app
from scheduler.estimate.table import written
from scheduler.manifest.limits import Limits
from scheduler.manifest.source import FORMATS
from storage.contract.families.references import REFERENCES
from storage.contract.families.registry import FAMILIES
from storage.contract.states import chart

ROOT = Path(__file__).parents[2]
PACKAGES = Path(scheduler.__file__).parents[1]
"""Where the packages are: installed elsewhere when a wheel is tested."""

README = (ROOT / "README.md").read_text()


def test_the_state_chart_is_the_table_of_states() -> None:
    (drawn,) = re.findall(r"```mermaid\n(.*?)```", README, re.S)

    assert drawn == chart()


def test_the_table_of_limits_is_complete_and_right() -> None:
    rows = re.findall(r"\| `RENDERMILL_(MAX_\w+)` \| (\d+) \|", README)

    assert {name.lower(): int(value) for name, value in rows} == dataclasses.asdict(Limits())


def test_the_table_of_families_is_that_of_the_records() -> None:
    assert written(README) == README, "make readme writes it anew"
    assert {one.family for one in REFERENCES} == {family.name for family in FAMILIES}


def test_every_format_is_described() -> None:
    assert set(re.findall(r"^\| `\.(\w+)` \|", README, re.M)) == set(FORMATS)


@pytest.mark.parametrize("command", sorted(set(re.findall(r"rendermill ([a-z][a-z-]+)", README))))
def test_every_command_named_exists(command: str) -> None:
    known = {registered.name for registered in app.registered_commands}

    assert (
        command in known | {"home"} or CliRunner().invoke(app, [command, "--help"]).exit_code == 0
    )


@pytest.fixture(scope="module")
def helps() -> str:
    """What ``--help`` of every command says, those of groups included."""
    commands = [[str(command.name)] for command in app.registered_commands]
    for group in app.registered_groups:
        assert group.typer_instance is not None
        inner = group.typer_instance.registered_commands
        commands += [[str(group.name), str(command.name)] for command in inner]
    wide = {"COLUMNS": "200"}
    return "".join(CliRunner().invoke(app, [*one, "--help"], env=wide).output for one in commands)


@pytest.mark.parametrize("option", sorted(set(re.findall(r"`?(--[a-z-]+)\b", README))))
def test_every_option_named_exists(option: str, helps: str) -> None:
    if option in ("--extra-index-url",):  # pip's
        pytest.skip("an option of pip")

    assert option in helps


@pytest.mark.parametrize(
    "path",
    sorted(
        set(re.findall(r"`((?:storage|scheduler|workers|tests|examples)/[\w/.]+)`", README))
        | set(re.findall(r"\]\(([\w/.]+)\)", README))
    ),
)
def test_every_path_named_exists(path: str) -> None:
    assert (ROOT / path).exists() or (PACKAGES / path).exists()
