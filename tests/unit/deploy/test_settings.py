"""What deploy/ sets is what the program reads, and what it reads is written down there."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Final

import pytest
from typer.testing import CliRunner

import scheduler
import storage
import workers
from scheduler.cli.main import app
from scheduler.manifest.limits import Limits
from storage.broker.queues import HOLD_SECONDS
from storage.settings import read_connections
from tests.deploying.compose import COMBINATIONS, DEPLOY, SECRETS, read_compose, variables_of
from tests.deploying.dockerfile import IMAGES

BETWEEN_PROCESSES: Final = {"RENDERMILL_WORKER_SETTINGS"}
"""Set by the program for its own children, and by nobody else."""

COMPOSE_SETTINGS: Final = DEPLOY / ".env.example"
HOST_SETTINGS: Final = DEPLOY / "systemd" / "rendermill.env.example"
OF_LIBRARIES: Final = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"}

_NAME: Final = re.compile(r"\bRENDERMILL_[A-Z_]*[A-Z]\b")
_SETTING: Final = re.compile(r"(?m)^#?([A-Z][A-Z0-9_]+)=(.*)$")


def read_by_the_program() -> set[str]:
    """Every variable the sources name, and the limits, whose names are made from fields."""
    folders = [Path(str(package.__file__)).parent for package in (scheduler, storage, workers)]
    sources = [path.read_text() for folder in folders for path in folder.rglob("*.py")]
    named = {name for source in sources for name in _NAME.findall(source)}
    limits = {f"RENDERMILL_{field.name.upper()}" for field in dataclasses.fields(Limits)}
    return (named | limits) - BETWEEN_PROCESSES


def settings_in(file: Path) -> dict[str, str]:
    return dict(_SETTING.findall(file.read_text()))


def set_in_containers() -> set[str]:
    return {
        name
        for names in COMBINATIONS
        for service in read_compose(names)["services"].values()
        for name in service.get("environment", {})
        if "build" in service
    }


def test_the_search_for_variables_finds_them() -> None:
    assert {"RENDERMILL_HOME", "RENDERMILL_DATABASE_URL", "RENDERMILL_MAX_ITEMS"} <= (
        read_by_the_program()
    )


def test_every_variable_given_to_the_program_is_one_it_reads() -> None:
    images_and_units = [*IMAGES, *DEPLOY.glob("systemd/*.service")]
    given = set(settings_in(HOST_SETTINGS)) | set_in_containers()
    given |= {name for path in images_and_units for name in _NAME.findall(path.read_text())}

    assert given - OF_LIBRARIES - read_by_the_program() == set()


def test_every_variable_the_program_reads_is_written_down() -> None:
    documented = set(settings_in(COMPOSE_SETTINGS)) | set(settings_in(HOST_SETTINGS))
    documented |= {name for path in IMAGES for name in _NAME.findall(path.read_text())}

    assert read_by_the_program() - documented == set()


def test_the_example_of_compose_settings_is_complete_and_holds_nothing_else() -> None:
    named = {name for path in DEPLOY.glob("compose*.yaml") for name in variables_of(path.name)}
    passed_through = {
        name
        for names in COMBINATIONS
        for service in read_compose(names)["services"].values()
        for name, value in service.get("environment", {}).items()
        if value is None
    }

    assert set(settings_in(COMPOSE_SETTINGS)) == named | passed_through


def test_only_the_secrets_must_be_filled_in() -> None:
    filled = re.findall(r"(?m)^([A-Z]\w+)=(.*)$", COMPOSE_SETTINGS.read_text())

    assert dict(filled) == dict.fromkeys(SECRETS, "")


def test_the_defaults_written_down_are_the_defaults() -> None:
    limits = {
        f"RENDERMILL_{name.upper()}": str(value)
        for name, value in dataclasses.asdict(Limits()).items()
    }
    compose = {
        name: default
        for name, default in variables_of("compose.yaml").items()
        if default is not None
    }
    written = settings_in(COMPOSE_SETTINGS)

    assert {name: written[name] for name in limits | compose} == limits | compose


@pytest.mark.parametrize("names", COMBINATIONS, ids="+".join)
def test_the_program_understands_its_urls(names: tuple[str, ...], tmp_path: Path) -> None:
    environment = read_compose(names)["services"]["scheduler"]["environment"]
    set_values = {name: value for name, value in environment.items() if value is not None}

    assert read_connections(set_values, tmp_path).is_farm


def test_the_program_understands_the_urls_of_the_host_example(tmp_path: Path) -> None:
    assert read_connections(settings_in(HOST_SETTINGS), tmp_path).is_farm


def test_the_broker_waits_as_long_for_a_ticket_as_the_queues_ask() -> None:
    conf = (DEPLOY / "rabbitmq" / "rendermill.conf").read_text()

    assert f"\nconsumer_timeout = {HOLD_SECONDS * 1000}\n" in conf


def test_every_command_that_is_run_exists() -> None:
    ran = {
        service["command"][0]
        for service in read_compose(("compose.yaml",))["services"].values()
        if "build" in service and "command" in service
    }
    ran |= set(re.findall(r'"rendermill", "(\w+)"', "".join(path.read_text() for path in IMAGES)))
    for unit in DEPLOY.glob("systemd/*.service"):
        ran |= set(re.findall(r"(?m)^ExecStart=\S+/rendermill (\w+)", unit.read_text()))

    assert ran == {"init", "scheduler", "worker", "health"}
    unknown = {name for name in ran if CliRunner().invoke(app, [name, "--help"]).exit_code}
    assert unknown == set()


def test_a_worker_can_be_told_its_grace() -> None:
    told = CliRunner().invoke(app, ["worker", "--help"], env={"COLUMNS": "200"})

    assert "--grace" in told.output
