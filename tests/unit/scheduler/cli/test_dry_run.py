"""``rendermill render --dry-run``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scheduler.cli import rendering
from scheduler.manifest.grouping import Describe
from scheduler.service.home import open_home
from storage.contract.capability import Mode
from storage.db import profiles
from storage.db.profiles import Sample
from storage.testing.factories import make_card

Program = Callable[..., Any]
Write = Callable[[str, str | bytes], str]

ROWS = "".join(
    json.dumps({"prompt": f"a {number}", "width": (64, 128)[number % 2], "kind[/x]": "y"}) + "\n"
    for number in range(10)
)


@pytest.fixture(autouse=True)
def _without_models(monkeypatch: pytest.MonkeyPatch, describe: Describe) -> None:
    monkeypatch.setattr(rendering, "describe", describe)


@pytest.fixture
def dry_run(program: Program, write: Write, tmp_path: Path) -> Callable[..., Any]:
    """Runs ``render --dry-run`` on one CPU worker with one thread."""

    def call(content: str, *options: str, file: str = "a.jsonl", at: Path | None = None) -> Any:
        return program(
            *("render", write(file, content), "--dry-run", "--device", "cpu", *options),
            at=at or tmp_path / "new",
        )

    return call


def test_a_dry_run_tells_what_would_be_made_and_writes_nothing(
    dry_run: Callable[..., Any], tmp_path: Path
) -> None:
    printed = dry_run(ROWS, "--json", "--processes", "2")
    assert printed.code == 0
    found = json.loads(printed.out)
    total = found["total"]
    assert (total["rows"], total["images"], total["groups"]) == (10, 10, 2)
    assert (total["tags"], total["rejected_rows"], total["measured"]) == (["kind[/x]"], 0, False)
    assert [(one["images"], one["spec"]["width"]) for one in found["groups"]] == [(5, 64), (5, 128)]
    assert total["seconds"] == pytest.approx(sum(one["seconds"] for one in found["groups"]))
    assert total["bytes"] == sum(one["bytes"] for one in found["groups"]) > 0
    assert all(one["memory_bytes"] > 0 for one in found["groups"])
    assert not (tmp_path / "new").exists()


def test_a_dry_run_is_told_to_people(dry_run: Callable[..., Any]) -> None:
    printed = dry_run(ROWS + "\n", "--set", "steps=7")
    assert printed.code == 0
    assert "64x64, 7 steps, cfg 4, DDIM" in printed.out
    assert "kind[/x]" in printed.out
    assert "a guess: not measured here yet" in printed.out
    assert "nothing (dry run)" in printed.out
    assert "rejected" not in printed.out


def test_more_workers_need_less_time(dry_run: Callable[..., Any]) -> None:
    seconds = [
        json.loads(dry_run(ROWS, "--json", "--processes", count).out)["total"]["seconds"]
        for count in ("1", "4")
    ]
    assert seconds[0] == pytest.approx(4 * seconds[1])


def test_what_was_measured_at_home_beats_a_guess(dry_run: Callable[..., Any], home: Path) -> None:
    options = ("--json", "--processes", "1", "--threads", "1")
    guess = json.loads(dry_run(ROWS, *options, at=home).out)
    key = "starter 64x64 steps=20 batch=5 dtype=auto decode=5"
    sample = Sample(
        profile_key=key,
        mode="cpu",
        device_kind="cpu/1",
        images=10,
        seconds=30.0,
        bytes=1000,
        peak_bytes=1,
    )
    with open_home(home) as opened, opened.ledger.write() as connection:
        profiles.add(connection, sample, now=1.0)
    first, second = json.loads(dry_run(ROWS, *options, at=home).out)["groups"]
    assert (first["seconds"], first["bytes"], first["measured"]) == (15.0, 500, True)
    assert second == guess["groups"][1]


def test_many_groups_are_counted_and_some_of_them_shown(dry_run: Callable[..., Any]) -> None:
    rows = "".join(json.dumps({"prompt": "a", "width": 8 * n}) + "\n" for n in range(1, 61))
    printed = dry_run(rows)
    assert printed.out.count("20 steps") == 40
    assert "... and 20 more groups" in printed.out


def test_skipped_rows_and_blank_lines_are_told(dry_run: Callable[..., Any]) -> None:
    printed = dry_run("a\n\n\nb\x07\nc\n", "--skip-invalid", file="a.txt")
    assert printed.code == 0
    assert "2 blank lines passed over" in printed.out
    rejected = next(line for line in printed.out.splitlines() if line.startswith("rejected"))
    assert rejected.split() == ["rejected", "1"]


def test_the_modes_and_who_takes_which_are_told(dry_run: Callable[..., Any]) -> None:
    printed = dry_run(ROWS, "--json", "--processes", "1")
    (first, _) = json.loads(printed.out)["groups"]
    assert {need["mode"] for need in first["modes"]} == {str(mode) for mode in Mode}
    assert first["devices"] == {"cpu": "cpu"}
    assert "mode" in dry_run(ROWS).out.splitlines()[0]


def test_a_cpu_with_a_limit_is_planned_as_the_card_it_passes_for(
    dry_run: Callable[..., Any],
) -> None:
    needs = json.loads(dry_run(ROWS, "--json").out)["groups"][0]["modes"]
    resident = next(n["memory_bytes"] for n in needs if n["mode"] == "resident") / 2**30

    for limit, mode in ((resident * 1.01, "resident"), (0.01, None)):
        planned = json.loads(dry_run(ROWS, "--json", "--vram-limit", repr(limit)).out)
        assert planned["groups"][0]["devices"] == {"cpu": mode}


def test_what_ran_out_of_memory_here_is_not_planned_again(
    dry_run: Callable[..., Any], home: Path
) -> None:
    options = ("--json", "--processes", "1", "--threads", "1")
    with open_home(home) as opened, opened.ledger.write() as connection:
        profiles.did_not_fit(
            connection,
            profile_key="starter 64x64 steps=20 batch=5 dtype=auto decode=5",
            mode=Mode.CPU,
            device_kind="cpu/1",
            room_bytes=1 << 50,
            now=1.0,
        )
    first, second = json.loads(dry_run(ROWS, *options, at=home).out)["groups"]
    assert (first["devices"], second["devices"]) == ({"cpu": "cpu-phased"}, {"cpu": "cpu"})


def test_a_model_no_record_covers_is_named_with_the_plain_call(
    dry_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    card = make_card(model="new", pipeline="SomethingNewPipeline", scheduler="DDIMScheduler")
    monkeypatch.setattr(rendering, "describe", lambda _model, _revision: card)
    printed = dry_run('{"prompt": "a", "width": 64, "height": 64}\n')
    line = next(line for line in printed.out.splitlines() if line.startswith("plain call"))
    assert line.split() == ["plain", "call", "new"]
