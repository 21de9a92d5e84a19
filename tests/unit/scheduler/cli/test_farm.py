"""``init``, ``scheduler``, ``submit`` and ``health`` from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from scheduler.cli.farm import _deadline
from scheduler.service.home import open_home
from storage.contract.errors import InputError
from storage.db import jobs
from storage.home import CATALOG

Run = Callable[..., Result]
Program = Callable[..., Any]
ReadJson = Callable[..., Any]
NOW = 1_800_000_000.0


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    """Three prompts."""
    file = tmp_path / "prompts.txt"
    file.write_text("one\ntwo\nthree\n")
    return str(file)


def job_of(home: Path, name: str) -> jobs.Job:
    with open_home(home) as opened, opened.ledger.read() as connection:
        return jobs.find(connection, name)


def test_init_makes_a_home_and_may_be_repeated(run: Run, tmp_path: Path) -> None:
    for _ in range(2):
        assert "catalog at schema" in run("init", at=tmp_path / "new").stdout
    assert (tmp_path / "new" / CATALOG).is_file()
    assert set(json.loads(run("init", "--json", at=tmp_path / "new").stdout)) == {
        *("home", "storage")
    }


def test_a_scheduler_is_for_a_farm_only(program: Program) -> None:
    said = program("scheduler")

    assert said.code == 2
    assert "RENDERMILL_DATABASE_URL is not set" in said.err


def test_a_database_that_is_away_is_one_error(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RENDERMILL_DATABASE_URL", "postgresql://u:secret@127.0.0.1:1/mill")

    for command in (["scheduler"], ["init"], ["status"], ["health", "worker"]):
        said = program(*command)
        assert said.code == 1
        assert "nothing answers there" in said.err
        assert "secret" not in said.err


def test_a_job_is_handed_in_with_its_terms(run: Run, home: Path, manifest: str) -> None:
    said = run(
        *("submit", manifest, "--name", "sweep", "--priority", "5", "--cpu", "never"),
        *("--deadline", "2d", "--webhook", "https://example.org/done", "--submitter", "ada"),
    ).stdout

    job = job_of(home, "sweep")
    assert (job.item_count, job.priority, job.cpu, job.submitter) == (3, 5, "never", "ada")
    assert job.webhook == "https://example.org/done"
    assert job.deadline_at is not None
    assert "Job sweep: 3 images" in said
    assert "It waits: no worker is live" in said
    assert "rendermill job sweep --watch" in said


def test_the_same_manifest_is_not_handed_in_twice(
    run: Run, read_json: ReadJson, manifest: str
) -> None:
    run("submit", manifest, "--name", "sweep")

    found = read_json("submit", manifest, "--name", "sweep")

    assert found["created"] is False
    assert found["job"]["name"] == "sweep"
    assert found["waits_because"] == ["no worker is live; start one with: rendermill worker"]


def test_a_dry_run_writes_nothing(run: Run, home: Path, manifest: str) -> None:
    assert "that of one worker" in run("submit", manifest, "--name", "sweep", "--dry-run").stdout
    for cpu in ("only", "never"):
        json.loads(run("submit", manifest, "--cpu", cpu, "--dry-run", "--json").stdout)

    with pytest.raises(InputError, match="no job 'sweep'"):
        job_of(home, "sweep")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cpu", "maybe"], "--cpu maybe: must be one of auto, never, only"),
        (["--dtype", "int8"], "--dtype int8: must be one of"),
        (["--deadline", "soon"], "--deadline soon: is neither a date with time nor a time"),
        (["--deadline", "2001-01-01"], "--deadline 2001-01-01: is in the past"),
        (["--webhook", "ftp://example.org"], "https://"),
    ],
)
def test_terms_that_cannot_be_met_are_refused(
    program: Program, home: Path, manifest: str, options: list[str], said: str
) -> None:
    found = program("submit", manifest, "--name", "sweep", *options)

    assert found.code == 2
    assert said in found.err.replace("\n", " ")
    with pytest.raises(InputError, match="no job 'sweep'"):
        job_of(home, "sweep")


@pytest.mark.parametrize(
    ("text", "at"),
    [
        (None, None),
        ("90m", NOW + 5400),
        ("6h", NOW + 6 * 3600),
        ("2d", NOW + 2 * 86400),
        ("2099-12-24T18:00", datetime(2099, 12, 24, 18).timestamp()),
        ("2099-12-24T18:00+00:00", 4101818400.0),
    ],
)
def test_a_deadline_is_a_date_where_the_user_is_or_a_time_from_now(
    text: str | None, at: float | None
) -> None:
    assert _deadline(text, NOW) == at


@pytest.mark.parametrize("text", ["", "6 h", "-6h", "999999d", "0001-01-01", "18:00", "2099-13-01"])
def test_what_is_no_deadline_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--deadline"):
        _deadline(text, NOW)


def test_health_is_an_exit_code(run: Run, program: Program) -> None:
    assert "no scheduler has ever led" in run("health", "scheduler", code=1).stdout
    assert "no worker of" in run("health", "worker", code=1).stdout
    assert program("health", "broker").code == 2
