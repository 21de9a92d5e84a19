"""Steering from the command line; what it means is tested in `service/test_control.py`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from scheduler.service.home import open_home
from storage.db import steering

Run = Callable[..., Result]
ReadJson = Callable[..., Any]
Program = Callable[..., Any]


def test_a_job_is_paused_resumed_and_cancelled(run: Run) -> None:
    assert run("pause", "shapes").stdout == "shapes is paused\n"
    assert run("cancel", "shapes").stdout == "shapes is cancelled\n"
    assert run("retry", "shapes").stdout == (
        "shapes: 1 failed item can be claimed again; it is open\n"
    )
    assert run("priority", "shapes", "7").stdout == "shapes has priority 7\n"


@pytest.mark.parametrize(
    ("command", "field", "value"),
    [
        (("pause", "shapes"), "state", "paused"),
        (("cancel", "shapes"), "state", "cancelled"),
        (("priority", "shapes", "3"), "priority", 3),
    ],
)
def test_steering_says_the_job_to_programs(
    read_json: ReadJson, command: tuple[str, ...], field: str, value: object
) -> None:
    assert read_json(*command)[field] == value


def test_retry_says_job_and_number_to_programs(read_json: ReadJson) -> None:
    found = read_json("retry", "shapes", "--failed")

    assert (found["job"]["failed"], found["items"]) == (0, 1)


def test_what_cannot_be_done_is_an_error_with_a_next_step(program: Program) -> None:
    said = program("pause", "birds")

    assert said.code == 2
    assert "birds is finished; it cannot be paused" in said.err
    assert "rendermill retry birds" in said.err


def test_why_is_said_in_sentences(run: Run, read_json: ReadJson) -> None:
    assert run("why", "birds").stdout == "birds is finished\n"
    assert read_json("why", "shapes") == [
        "shapes waits:",
        "no worker is live; start one with: rendermill worker",
    ]


def test_workers_are_listed(run: Run, read_json: ReadJson) -> None:
    assert "testhost/cpu#1" in run("workers").stdout
    (found,) = read_json("workers")
    assert (found["name"], found["state"]) == ("testhost/cpu#1", "live")


def test_a_worker_is_steered_by_name_or_number(run: Run, read_json: ReadJson) -> None:
    assert run("worker", "testhost/cpu#1", "drain").stdout == "testhost/cpu#1 is draining\n"
    assert "drained by an op" in run("workers").stdout
    assert read_json("worker", "1", "resume")["state"] == "live"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("testhost/cpu#1",), "worker testhost/cpu#1 needs an action; there are drain and resume"),
        (("drain",), "worker drain needs an action"),
        (("1", "stop"), "worker 1 stop: is no action; there are drain and resume"),
        (("nobody", "drain"), "no worker 'nobody'; there are: testhost/cpu#1"),
    ],
)
def test_a_worker_is_not_steered_by_half_a_command(
    program: Program, arguments: tuple[str, ...], said: str
) -> None:
    found = program("worker", *arguments)

    assert found.code == 2
    assert said in found.err.replace("\n", " ")
    assert "→" in found.err


def test_status_shows_the_parts(run: Run, read_json: ReadJson, home: Path) -> None:
    shown = run("status").stdout
    assert "1 finished" in shown
    assert "1 open" in shown
    assert "no scheduler leads" in shown

    found = read_json("status")

    assert found["jobs"] == {"finished": 1, "open": 1}
    assert found["items_left"] == 3
    assert found["storage"] == str(home)
    assert set(found) == {
        *("ledger", "broker", "storage", "leader", "jobs", "items_left"),
        *("images_per_second", "classes"),
    }


def test_events_are_lines_for_people_and_for_programs(run: Run) -> None:
    assert "submit  birds" in run("events").stdout

    lines = run("events", "--job", "birds", "--json").stdout.splitlines()

    events = [json.loads(line) for line in lines]
    assert [event["verb"] for event in events] == ["submit", "claim", "finish", "finish"]
    after = run("events", "--json", "--after", str(events[1]["id"]), "--limit", "1").stdout
    assert json.loads(after)["id"] > events[1]["id"]


def test_following_shows_what_comes_until_it_is_interrupted(
    program: Program, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def something_happens(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) > 2:
            raise SystemExit(130)  # as Ctrl-C does
        with open_home(home) as opened, opened.ledger.write() as connection:
            steering.set_priority(connection, 1, len(pauses), now=5.0)

    monkeypatch.setattr("scheduler.cli.control.time.sleep", something_happens)

    said = program("events", "--follow", "--json", "--limit", "1")

    events = [json.loads(line) for line in said.out.splitlines()]
    assert said.code == 130
    assert [(event["verb"], event["detail"]) for event in events[1:]] == [
        ("priority", "1"),
        ("priority", "2"),
    ]
