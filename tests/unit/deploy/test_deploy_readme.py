"""deploy/README.md must stay true."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from scheduler.cli.main import app
from storage.broker.queues import DEAD
from tests.deploying.compose import COMBINATIONS, DEPLOY, read_compose

README = (DEPLOY / "README.md").read_text()
COMMANDS = set(re.findall(r"(?m)(?:(?:^|`|&& |bin/)rendermill|--rm cli) ([a-z]+)", README))
SERVICES = {name for names in COMBINATIONS for name in read_compose(names)["services"]}


@pytest.mark.parametrize(
    "path",
    sorted(set(re.findall(r"\bdeploy/[\w./-]*\w", README)) - {"deploy/.env"}),
)
def test_every_file_named_exists(path: str) -> None:
    assert (DEPLOY.parent / path).exists()


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_named_exists(command: str) -> None:
    assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0


def test_every_service_spoken_of_exists() -> None:
    named = set(re.findall(r"exec (?:-T )?([a-z]+)", README)) | {"cli", "bucket", "init"}
    named |= set(re.findall(r"--scale ([a-z-]+)=", README))

    assert named - SERVICES == set()


def test_every_service_is_spoken_of() -> None:
    assert {name for name in SERVICES if name not in README} == set()


def test_the_queue_of_dead_tickets_has_that_name() -> None:
    assert f"`{DEAD}`" in README
