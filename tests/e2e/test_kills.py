"""Killing processes at any instant changes only how long it takes."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import psutil
import pytest

FAKE = ("--renderer", "fake", "--fake-seconds", "0.01")
ITEMS = 120
Wait = Callable[[Callable[[], bool], str], None]


@pytest.fixture
def manifest(program: Any) -> str:
    (program.folder / "many.txt").write_text("".join(f"prompt {n}\n" for n in range(ITEMS)))
    return "many.txt"


@pytest.fixture
def undisturbed(program: Any, manifest: str) -> dict[str, bytes]:
    """The pictures of a run that nobody killed."""
    program.run("render", manifest, "--home", "calm", "--renderer", "fake")
    calm = program.folder / "calm" / "renders" / "many"
    return {path.name: path.read_bytes() for path in calm.rglob("*.png")}


def kill_family(process: Any) -> None:
    """``kill -9`` of the program and all it started, as a power cut does."""
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for member in family:
        member.kill()
    psutil.wait_procs(family, timeout=30)


def _rows_or_end(program: Any, run: Any, rows: int) -> bool:
    return bool(program.rows() >= rows or run.poll() is not None)


@pytest.mark.parametrize("everything", [True, False], ids=["whole family", "program only"])
def test_five_kills_at_random_instants_lose_nothing(
    program: Any,
    manifest: str,
    undisturbed: dict[str, bytes],
    wait_until: Wait,
    everything: bool,
) -> None:
    instants = sorted(random.Random(7).sample(range(1, ITEMS - 20), 5))
    command: tuple[str, ...] = ("render", manifest)
    for instant in instants:
        run = program.start(*command, *FAKE)
        wait_until(partial(_rows_or_end, program, run, instant), f"{instant} rows")
        if everything:
            kill_family(run)
        else:
            run.kill()
        run.wait()
        command = ("resume", "many")

    program.run("resume", "many", *FAKE)

    program.check("many", items=ITEMS)
    assert program.files("many") == undisturbed


@pytest.mark.parametrize("victim", ["worker", "supervisor"])
def test_a_killed_process_is_replaced_or_its_work_resumed(
    program: Any, manifest: str, undisturbed: dict[str, bytes], wait_until: Wait, victim: str
) -> None:
    run = program.start("render", manifest, *FAKE, "--processes", "2")
    wait_until(lambda: program.rows() >= 16, "some images")

    killed = program.workers() if victim == "worker" else program.supervisors()
    killed[0].kill()
    output, errors = run.communicate(timeout=120)

    if victim == "worker":
        assert run.returncode == 0, output + errors
    else:
        assert run.returncode == 1
        assert "rendermill resume many" in errors
        program.run("resume", "many", *FAKE)
    program.check("many", items=ITEMS)
    assert program.files("many") == undisturbed


def test_workers_leave_when_the_program_is_killed(
    program: Any, manifest: str, wait_until: Wait
) -> None:
    run = program.start("render", manifest, *FAKE)
    wait_until(lambda: program.rows() >= 1, "the first images")

    run.kill()
    run.wait()

    wait_until(lambda: not program.workers() and not program.supervisors(), "the workers to leave")
    leased = program.query("SELECT count(*) FROM tasks WHERE state = 'leased'")
    assert leased == [(0,)], "a drained worker hands back what it holds"


def test_a_kill_during_submit_leaves_no_half_made_job(program: Any, wait_until: Wait) -> None:
    rows = "".join(f'{{"prompt": "p {n}", "seed": {n}}}\n' for n in range(60_000))
    (program.folder / "large.jsonl").write_text(rows)
    run = program.start("render", "large.jsonl", "--renderer", "fake")
    wait_until(lambda: any((program.home / "jobs").glob("*/*")), "the first shard")

    kill_family(run)
    run.wait()

    jobs = program.query("SELECT item_count FROM jobs")
    assert jobs in ([], [(60_000,)])
    shards = program.query("SELECT coalesce(sum(item_count), 0) FROM shards")
    assert shards == [(sum(row[0] for row in jobs),)]
