"""Reading the catalog."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from typer.testing import Result

from scheduler.service.home import open_home
from storage.contract.claims import Progress
from storage.contract.output import ImageFormat, Produced, Safety, Watermark
from storage.contract.states import Entity
from storage.db import tables, workers
from storage.db.transitions import advance
from storage.testing.factories import add_groups, add_job, add_worker

Run = Callable[..., Result]
ReadJson = Callable[..., Any]
Program = Callable[..., Any]


def images_of(found: Any) -> list[str]:
    return [one["image"] for one in found["images"]]


# Jobs


def test_jobs_are_listed_the_newest_first(read_json: ReadJson) -> None:
    birds, shapes = read_json("jobs")
    assert (birds["name"], birds["state"], birds["shown_state"]) == (
        *("birds", "finished", "finished"),
    )
    assert (shapes["name"], shapes["state"], shapes["shown_state"]) == (
        *("shapes", "open", "interrupted"),
    )
    assert (shapes["item_count"], shapes["done"], shapes["failed"]) == (8, 4, 1)


def test_a_job_that_a_worker_is_busy_with_is_rendering(home: Path, read_json: ReadJson) -> None:
    with open_home(home) as opened:
        worker_id = add_worker(opened.ledger, pid=2)
        with opened.ledger.write() as connection:
            workers.beat(connection, worker_id, Progress(phase="denoise", job="shapes"), now=9.0)
    assert [one["shown_state"] for one in read_json("jobs")] == ["finished", "rendering"]


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_what_the_user_did_to_a_job_is_its_state(
    home: Path, read_json: ReadJson, verb: str
) -> None:
    with open_home(home) as opened, opened.ledger.write() as connection:
        advance(connection, Entity.JOB, 1, verb, now=9.0)
    assert (
        read_json("job", "shapes")["shown_state"]
        == {
            "pause": "paused",
            "cancel": "cancelled",
        }[verb]
    )


def test_jobs_go_on_page_by_page(home: Path, read_json: ReadJson) -> None:
    with open_home(home) as opened:
        for number in range(5):
            add_job(opened.ledger, opened.store, name=f"more-{number}")
    names: list[str] = []
    before: list[str] = []
    while page := read_json("jobs", "--limit", "3", *before):
        names += [one["name"] for one in page]
        before = ["--before", str(page[-1]["id"])]
    assert names == [*(f"more-{number}" for number in (4, 3, 2, 1, 0)), "birds", "shapes"]


def test_jobs_are_a_table_for_people(run: Run) -> None:
    head, birds, shapes = run("jobs").stdout.splitlines()
    assert head.split() == ["no", "job", "state", "images", "failed", "submitted", "manifest"]
    assert birds.split()[:4] == ["2", "birds", "finished", "2/2"]
    assert shapes.split()[:5] == ["1", "shapes", "interrupted", "4/8", "1"]


def test_a_home_without_jobs_says_so(run: Run, tmp_path: Path) -> None:
    new = tmp_path / "new"
    with open_home(new, create=True):
        pass
    assert run("jobs", at=new).stdout == "No jobs yet.\n"
    assert json.loads(run("jobs", "--json", at=new).stdout) == []


# One job


@pytest.mark.parametrize("reference", ["shapes", "1"])
def test_a_job_is_found_by_name_and_by_number(read_json: ReadJson, reference: str) -> None:
    job = read_json("job", reference)
    assert (job["id"], job["name"]) == (1, "shapes")
    assert job["failures"] == {"nan": 1}
    assert job["truncated_prompts"] == 1
    (group,) = job["groups"]
    assert (group["done"], group["failed"], group["leased"], group["claimable"]) == (4, 1, 0, 3)
    assert group["spec"]["width"] == 64


def test_a_job_is_told_to_people(run: Run) -> None:
    said = run("job", "shapes").stdout
    assert "shapes (number 1)" in said
    assert "4 of 8" in said
    assert "1: 1 nan" in said
    assert "1 (see images --truncated)" in said
    assert "64x64, 2 steps, cfg 4, ddim" in said


def test_a_job_of_many_groups_shows_the_first_of_them(home: Path, run: Run) -> None:
    with open_home(home) as opened:
        add_groups(opened.ledger, *[(1, 1)] * 25, name="many")
    said = run("job", "many").stdout
    assert said.count("64x64") == 20
    assert said.rstrip().endswith("... and more groups; see --json")


# Images


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ([], ["shapes/0", "shapes/1", "shapes/2", "shapes/3", "shapes/4", "birds/0", "birds/1"]),
        (["--job", "birds"], ["birds/0", "birds/1"]),
        (["--job", "1", "--limit", "2"], ["shapes/0", "shapes/1"]),
        (["--tag", "kind=star"], ["shapes/0", "shapes/1"]),
        (["--tag", "kind=star", "--contains", "BLUE"], ["shapes/1"]),
        (["--tag", "kind=star", "--tag", "kind=moon"], []),
        (["--tag", "a=b=c"], []),
        (["--contains", "red"], ["shapes/0", "shapes/2"]),
        (["--contains", "%"], ["shapes/3"]),
        (["--contains", "\\["], ["shapes/1"]),
        (["--seed", "2"], ["shapes/2"]),
        (["--seed", "4294967295"], ["birds/0"]),
        (["--model", "starter", "--row", "1"], ["shapes/1"]),
        (["--model", "/models/my birds"], ["birds/0", "birds/1"]),
        (["--row", "1"], ["shapes/1", "birds/1"]),
        (["--failed"], ["shapes/4"]),
        (["--failed", "--job", "birds"], []),
        (["--truncated"], ["shapes/3"]),
        (["--after", "shapes/3"], ["shapes/4", "birds/0", "birds/1"]),
        (["--after", "shapes/3", "--job", "shapes"], ["shapes/4"]),
        (["--after", "birds/1"], []),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_images_are_found_by_every_filter(
    read_json: ReadJson, options: list[str], found: list[str]
) -> None:
    assert images_of(read_json("images", *options)) == found


@pytest.mark.parametrize("filters", [[], ["--job", "shapes"], ["--tag", "kind=star"]])
@pytest.mark.parametrize("limit", ["1", "2", "3"])
def test_images_go_on_page_by_page_to_the_end(
    read_json: ReadJson, limit: str, filters: list[str]
) -> None:
    whole = images_of(read_json("images", *filters))
    paged: list[str] = []
    after: list[str] = []
    while True:
        page = read_json("images", *filters, "--limit", limit, *after)
        paged += images_of(page)
        if page["next"] is None:
            break
        assert page["next"] == paged[-1]
        after = ["--after", page["next"]]
    assert paged == whole


def test_the_last_page_names_no_next_one(read_json: ReadJson) -> None:
    assert read_json("images", "--limit", "7")["next"] is None
    assert read_json("images", "--limit", "6")["next"] == "birds/0"


def test_images_are_a_table_for_people(run: Run) -> None:
    head, *rows = run("images", "--limit", "5").stdout.splitlines()
    assert head.split() == ["image", "seed", "size", "model", "outcome", "prompt"]
    assert rows[0].split() == ["shapes/0", "0", "64x64", "starter", "rendered", "a", "red", "star"]
    assert rows[1].rstrip().endswith("a [bold]blue[/] star \\[/b]")
    assert rows[4].split()[4:] == ["nan", "a", "tree"]
    assert rows[5] == "More: add --after shapes/4"


def test_that_no_images_match_is_said(run: Run) -> None:
    assert run("images", "--contains", "nothing").stdout == "No images match.\n"


def test_paths_are_files_only_one_a_line(run: Run, home: Path) -> None:
    lines = run("images", "--job", "shapes", "--paths").stdout.splitlines()
    assert lines == [str(home / f"renders/shapes/{item}.png") for item in range(4)]


# One image


def test_an_image_is_told_with_all_that_made_it(read_json: ReadJson, home: Path) -> None:
    image = read_json("image", "shapes/1")
    assert image["prompt"] == "a [bold]blue[/] star \\[/b]"
    assert image["tags"] == {"kind": "star"}
    assert image["rendering"]["weights"] == "abc"
    assert image["file"] == str(home / "renders/shapes/1.png")
    assert not image.keys() & {"job_id", "group_id", "task_id"}


def test_a_failed_image_has_a_reason_and_no_file(read_json: ReadJson) -> None:
    image = read_json("image", "shapes/4")
    assert (image["outcome"], image["reason"]) == ("failed", "nan")
    assert image["detail"] == "attempt 1 (worker 1): nan: not finite"
    assert (image["file"], image["rendering"]) == (None, None)


def test_an_image_is_told_to_people_with_its_prompt_as_it_is(run: Run) -> None:
    said = run("image", "shapes/1").stdout
    assert "a [bold]blue[/] star \\[/b]" in said
    assert "kind=star" in said
    assert "weights" in said
    assert "steps_down" not in said


@pytest.mark.parametrize("command", ["image", "images"])
def test_all_images_can_be_read_as_json_and_are_the_same(read_json: ReadJson, command: str) -> None:
    listed = read_json("images")["images"]
    told = [read_json("image", one["image"]) for one in listed]
    beside = {"settings", "lineage"}
    assert listed == [{n: v for n, v in one.items() if n not in beside} for one in told]


def test_an_image_says_where_it_comes_from(run: Run, read_json: ReadJson) -> None:
    lineage = read_json("image", "shapes/0")["lineage"]
    assert lineage["worker"] == "testhost/cpu#1"
    assert (lineage["attempts"], lineage["parents"]) == (1, {})
    assert "testhost/cpu#1" in run("image", "shapes/0").output


# What is not there


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["job", "nothing"], "no job 'nothing'; the newest are: birds, shapes"),
        (["job", "9"], "no job '9'; the newest are: birds, shapes"),
        (["job", "9" * 40], "no job '999999"),
        (["image", "shapes/7"], "no image shapes/7"),
        (["image", "nothing/1"], "no image nothing/1"),
        (["image", "shapes"], "'shapes' is not an image id; one looks like 'shapes/12'"),
        (["image", "shapes/-1"], "'shapes/-1' is not an image id"),
        (["image", f"shapes/{'9' * 40}"], "'shapes/999"),
        (["image", "[/x]/1"], "'[/x]/1' is not an image id"),
        (["images", "--job", "nothing"], "no job 'nothing'"),
        (["images", "--after", "nothing/1"], "no job 'nothing'"),
        (["images", "--after", "x"], "'x' is not an image id"),
        (["images", "--tag", "kind"], "--tag kind: must be NAME=VALUE, such as category=Animals"),
        (["contact-sheet", "nothing", "-o", "x.png"], "no job 'nothing'"),
        (["resume", "nothing"], "no job 'nothing'"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_what_is_not_there_is_one_clear_error(
    program: Program, arguments: list[str], said: str
) -> None:
    printed = program(*arguments)
    assert printed.code == 2
    assert printed.err.startswith(f"error: {said}")
    assert printed.out == ""


@pytest.mark.parametrize(
    "command",
    [["jobs"], ["job", "x"], ["images"], ["image", "x/1"], ["contact-sheet", "x", "-o", "y"]],
)
def test_reading_makes_no_home(program: Program, tmp_path: Path, command: list[str]) -> None:
    nowhere = tmp_path / "now[/here]"
    printed = program(*command, at=nowhere)
    assert printed.code == 2
    assert printed.err.startswith(f"error: there is no catalog in {nowhere}\n→ render something")
    assert not nowhere.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["images", "--seed", "9" * 40],
        ["images", "--seed", "-1"],
        ["images", "--row", "9" * 40],
        ["images", "--limit", "0"],
        ["images", "--limit", "1000000"],
        ["jobs", "--before", "9" * 40],
        ["jobs", "--limit", "x"],
        ["job"],
        ["nothing"],
    ],
    ids=lambda value: " ".join(value)[:30],
)
def test_an_option_out_of_bounds_is_refused(program: Program, arguments: list[str]) -> None:
    printed = program(*arguments)
    assert printed.code == 2
    assert "Traceback" not in printed.err


MARKED = Produced(
    format=ImageFormat.JPEG,
    safety=Safety(flagged=True, concepts={3: 0.012}, highest=0.012, checker="abc"),
    blurred=True,
    watermark=Watermark(bits=136, wrong=7),
    signed=True,
)


@pytest.fixture
def marked(home: Path) -> None:
    """What was done to the file of shapes/1 is known."""
    with open_home(home) as opened, opened.ledger.write() as connection:
        connection.execute(
            sa.update(tables.images)
            .where(tables.images.c.job_id == 1, tables.images.c.item == 1)
            .values(
                phash=-2,
                pixels_sha256="ff",
                flagged=1,
                produced=msgspec.json.encode(MARKED).decode(),
            )
        )


@pytest.mark.usefixtures("marked")
def test_an_image_tells_programs_what_was_done_to_its_file(read_json: ReadJson) -> None:
    image = read_json("image", "shapes/1")

    assert image["produced"] == {
        "format": "jpeg",
        "safety": {
            "flagged": True,
            "concepts": {"3": 0.012},
            "highest": 0.012,
            "checker": "abc",
        },
        "blurred": True,
        "watermark": {"bits": 136, "wrong": 7},
        "signed": True,
    }
    assert image["phash"] == "fffffffffffffffe"
    assert image["pixels_sha256"] == "ff"
    assert image["flagged"] is True


@pytest.mark.usefixtures("marked")
def test_an_image_tells_people_what_was_done_to_its_file(run: Run) -> None:
    said = " ".join(run("image", "shapes/1").stdout.split())

    assert "safety flagged: concepts 3 (+0.012); stored blurred" in said
    assert "watermark read back with 7 of 136 bits wrong" in said
    assert "signed C2PA" in said


def test_an_image_nothing_was_done_to_says_nothing_of_it(run: Run, read_json: ReadJson) -> None:
    assert read_json("image", "shapes/0")["produced"] == {}
    assert "watermark" not in run("image", "shapes/0").stdout
