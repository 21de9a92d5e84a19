"""``python -m workers``: what it passes on, refuses, and answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from workers import cli
from workers.settings import EXIT_SURROUNDINGS, WorkerSettings


def workers(
    *arguments: str | Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it with an end of input that stays open."""
    return subprocess.run(
        [sys.executable, "-m", "workers", *map(str, arguments)],
        capture_output=True,
        text=True,
        stdin=subprocess.PIPE if "supervise" not in arguments else None,
        env=os.environ | (environment or {}),
        timeout=120,
        check=False,
    )


def test_a_supervisor_passes_its_options_on_and_every_one_is_known(tmp_path: Path) -> None:
    given = [
        *("--home", str(tmp_path), "--device", "cuda:1", "--threads", "2", "--job", "7"),
        *("--vram-limit", "8", "--name", "one", "--sleep", "22:00-06:00", "--grace", "3.0"),
        *("--renderer", "fake", "--fake-seconds", "0.5"),
    ]
    options = cli._parser().parse_args(["supervise", *given, "--processes", "2"])

    passed = cli._passed_on(options)
    understood = vars(cli._parser().parse_args(["run", *passed, "--slot", "1"]))

    assert {name: understood[name] for name in vars(options) if name in understood} == {
        name: value for name, value in vars(options).items() if name in understood
    } | {"command": "run"}
    fields = set(WorkerSettings.__struct_fields__) - {"job_id", "vram_class"}
    assert fields <= understood.keys()


def test_places_of_a_device_differ_in_their_slot_alone(tmp_path: Path) -> None:
    options = cli._parser().parse_args(
        ["supervise", "--home", str(tmp_path), "--processes", "2", "--threads", "3"]
    )

    first, second = cli._places(options, "consume")

    assert [first.slot, second.slot] == [0, 1]
    assert list(first.command)[3] == "consume"
    assert list(first.command)[:-1] == list(second.command)[:-1]
    assert first.environment["OMP_NUM_THREADS"] == "3"


@pytest.mark.parametrize(
    ("options", "environment", "said"),
    [
        (["--vram-class", "gpu8"], {}, "cpu is of class cpu, less than the gpu8 asked for"),
        ([], {"RENDERMILL_BROKER_URL": "amqp://host"}, "RENDERMILL_BROKER_URL is set, but"),
        ([], {"RENDERMILL_SPOT_NOTICE": "azure"}, "RENDERMILL_SPOT_NOTICE is 'azure'"),
    ],
)
def test_what_cannot_work_is_told_to_who_started_the_supervisor(
    tmp_path: Path, options: list[str], environment: dict[str, str], said: str
) -> None:
    done = workers("supervise", "--home", tmp_path, *options, environment=environment)

    (line,) = done.stdout.splitlines()
    told = json.loads(line)
    assert (told["event"], told["device"]) == ("failed", "cpu")
    assert said in told["message"]
    assert done.returncode == EXIT_SURROUNDINGS


def test_a_worker_without_what_it_needs_says_one_line_with_what_to_do(tmp_path: Path) -> None:
    done = workers("consume", "--home", tmp_path)

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("RENDERMILL_BROKER_URL is not set")


def test_a_worker_whose_ledger_is_away_blames_its_surroundings(tmp_path: Path) -> None:
    away = {"RENDERMILL_DATABASE_URL": "postgresql://u:secret@127.0.0.1:1/mill"}

    done = workers("run", "--home", tmp_path, environment=away)

    assert done.returncode == EXIT_SURROUNDINGS
    assert "nothing answers there" in done.stderr
    assert "secret" not in done.stderr
