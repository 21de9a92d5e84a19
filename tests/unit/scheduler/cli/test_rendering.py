"""``rendermill render`` and ``resume``, as far as they start no worker."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scheduler.cli import rendering
from scheduler.manifest.grouping import Describe
from scheduler.manifest.limits import Limits
from scheduler.service.home import open_home
from scheduler.service.options import SubmitOptions
from scheduler.service.prepare import prepared
from scheduler.service.submit import submit
from storage.contract.outcomes import Outcome, Reason
from storage.contract.states import Entity
from storage.db import groups, tasks
from storage.db.transitions import advance
from storage.testing.factories import add_worker, cut_task, make_image_row, ref_of

Program = Callable[..., Any]
Write = Callable[[str, str | bytes], str]
Finish = Callable[..., str]


@pytest.fixture(autouse=True)
def _without_models(monkeypatch: pytest.MonkeyPatch, describe: Describe) -> None:
    monkeypatch.setattr(rendering, "describe", describe)


@pytest.fixture
def finish(write: Write, describe: Describe) -> Finish:
    """Submits three prompts as the job "mine" and renders them, some of them in vain."""

    def submit_and_render(home: Path, *, failed: int = 0) -> str:
        path = write("a.txt", "a cat\na dog\na fox\n")
        options = SubmitOptions(manifest=path, name="mine")
        with (
            open_home(home, create=True) as opened,
            prepared(options, limits=Limits(), describe=describe) as work,
        ):
            job = submit(work, path, ledger=opened.ledger, store=opened.store).job
            with opened.ledger.read() as connection:
                (group,) = groups.of_job(connection, job.id, limit=1)
            worker_id = add_worker(opened.ledger)
            task = cut_task(opened.ledger, worker_id, group_id=group.id, items=3)
            assert task is not None
            lost = {"outcome": Outcome.FAILED, "reason": Reason.NAN, "object_key": None}
            rows = [
                make_image_row(task, item, **(lost if item < failed else {})) for item in range(3)
            ]
            with opened.ledger.write() as connection:
                tasks.commit(connection, ref_of(task), rows, expires_at=9.0, now=9.0)
        return path

    return submit_and_render


# A job that is done already


@pytest.mark.parametrize(("failed", "code"), [(0, 0), (1, 3)])
def test_the_same_manifest_under_the_name_of_a_finished_job_renders_nothing(
    program: Program, finish: Finish, home: Path, failed: int, code: int
) -> None:
    path = finish(home, failed=failed)
    printed = program("render", path, "--name", "mine")
    assert printed.code == code
    assert "Job mine was made from this manifest before; going on with it." in printed.out
    assert f"{3 - failed} of 3 images" in printed.out
    assert ("1: 1 nan" in printed.out) is bool(failed)


@pytest.mark.parametrize(("failed", "code"), [(0, 0), (2, 3)])
def test_resuming_a_finished_job_tells_how_it_ended(
    program: Program, finish: Finish, home: Path, failed: int, code: int
) -> None:
    finish(home, failed=failed)
    printed = program("resume", "mine", "--json")
    found = json.loads(printed.out)
    assert printed.code == code
    assert (found["name"], found["done"], found["failed"]) == ("mine", 3 - failed, failed)
    assert found["failures"] == ({"nan": failed} if failed else {})
    assert found["pictures"] == str(home / "renders/mine")


def test_the_next_commands_name_the_home_as_it_is(
    program: Program, finish: Finish, tmp_path: Path
) -> None:
    home = tmp_path / "my [old] home"
    finish(home)
    printed = program("resume", "mine", at=home)
    told = printed.out.replace("\n", "").replace(" ", "")
    assert f"rendermill images --job mine --home {home}".replace(" ", "") in told


def test_another_manifest_under_the_name_is_refused(
    program: Program, finish: Finish, write: Write, home: Path
) -> None:
    finish(home)
    printed = program("render", write("b.txt", "a bird\n"), "--name", "mine")
    assert printed.code == 2
    assert printed.err.startswith("error: there is a job 'mine' already, made from another")


def test_a_cancelled_job_is_not_resumed(program: Program, home: Path) -> None:
    with open_home(home) as opened, opened.ledger.write() as connection:
        advance(connection, Entity.JOB, 1, "cancel", now=9.0)
    printed = program("resume", "shapes")
    assert printed.code == 2
    assert printed.err.startswith("error: the job 'shapes' was cancelled")


# Bad input

GOOD = "a cat\n"


@pytest.mark.parametrize(
    ("file", "content", "options", "said"),
    [
        ("a.txt", "", [], "{path}: is empty"),
        ("a.csv", "prompt,seed\n[/x],-1\n", [], "{path}:2: seed: must be 0 to 4294967295, not -1"),
        ("a.txt", GOOD, ["--set", "steps=many"], "{path}: --set steps: must be a whole number"),
        ("a.txt", GOOD, ["--set", "steps"], "--set steps: must be NAME=VALUE, such as num_inf"),
        ("a.txt", GOOD, ["--set", "n=1", "--set", "n=2"], "--set n: is there twice"),
        ("a.txt", GOOD, ["--default", "colour=red"], "{path}: --default colour: is no field"),
        ("a.txt", GOOD, ["--set", "width=100"], "{path}:1: width: must be divisible by 8; 100 is"),
        ("a.txt", GOOD, ["--model", "nothing"], "{path}:1: model: no model 'nothing'"),
        ("a.txt", GOOD, ["--dtype", "int8"], "--dtype int8: must be one of auto, float32"),
        ("a.txt", GOOD, ["--format", "xls"], "no format 'xls'; allowed: txt, csv"),
        ("a.txt", GOOD, ["--format", "parquet"], "{path}: is not a readable Parquet file"),
        ("a.txt", GOOD, ["--name", "My job"], "'My job' cannot be a job's name"),
        ("a.txt", GOOD, ["--name", ""], "'' cannot be a job's name"),
        ("a.doc", GOOD, [], "{path}: cannot tell its format by its name"),
    ],
    ids=range(14),
)
def test_bad_input_is_one_clear_error_and_makes_no_job(
    program: Program,
    write: Write,
    home: Path,
    file: str,
    content: str,
    options: list[str],
    said: str,
) -> None:
    path = write(file, content)
    printed = program("render", path, *options)
    assert printed.code == 2
    assert printed.err.startswith("error: " + said.format(path=path))
    assert printed.out == ""
    assert len(json.loads(program("jobs", "--json").out)) == 2
    assert not list((home / "jobs").glob("*/items-*"))


def test_bad_input_makes_no_home(program: Program, write: Write, tmp_path: Path) -> None:
    new = tmp_path / "new"
    assert program("render", write("a.csv", "prompt,seed\na,-1\n"), at=new).code == 2
    assert not new.exists()


@pytest.mark.parametrize(
    "options",
    [["--seed", "-1"], ["--seed", "4294967296"], ["--processes", "0"], ["--grace", "-1"]],
    ids=" ".join,
)
def test_an_option_out_of_bounds_is_refused(
    program: Program, write: Write, options: list[str]
) -> None:
    printed = program("render", write("a.txt", GOOD), *options)
    assert printed.code == 2
    assert "Traceback" not in printed.err


def test_a_bad_setting_is_named(
    program: Program, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RENDERMILL_MAX_SIDE", "large")
    printed = program("render", write("a.txt", GOOD))
    assert printed.code == 2
    assert printed.err.startswith("error: RENDERMILL_MAX_SIDE must be a whole number from 1 on")
