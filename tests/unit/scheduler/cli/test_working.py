"""``rendermill worker``: what it refuses, what it says, and what it starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scheduler.cli import working
from scheduler.service.supervisors import DevicePlan, Orders, Told
from storage.contract.errors import RendermillError, SchemaMismatch, SettingError

Program = Callable[..., Any]


class FakeSupervisors:
    """Supervisors that say something and end."""

    made: list[FakeSupervisors]
    says: tuple[Told, ...] = ()

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.started: list[DevicePlan] = []
        self.closed = False
        self.made.append(self)

    def start(self, plan: DevicePlan) -> None:
        self.started.append(plan)

    @property
    def running(self) -> bool:
        return False

    def hear(self) -> Iterator[Told]:
        yield from self.says if self.closed else ()

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def supervisors(monkeypatch: pytest.MonkeyPatch) -> type[FakeSupervisors]:
    """Takes the place of real ones; a farm whose parts are all well is around them."""
    FakeSupervisors.made, FakeSupervisors.says = [], ()
    monkeypatch.setattr(working, "Supervisors", FakeSupervisors)
    monkeypatch.setattr(working, "obstacles", lambda _connections: iter(()))
    monkeypatch.setattr("scheduler.service.processes.devices", lambda: ["cuda:0", "cuda:1"])
    monkeypatch.setenv("RENDERMILL_DATABASE_URL", "postgresql://host/mill")
    return FakeSupervisors


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sleep", "22-06"], "--sleep 22-06: must be hours like 22:00-06:00"),
        (["--sleep", "24:00-06:00"], "--sleep 24:00-06:00"),
        (["--class", "gpu9"], "--class gpu9: must be one of cpu, gpu4"),
        (["--class", "cpu", "--device", "cuda:0"], "--class cpu: is for --device cpu alone"),
        (["--class", "gpu8", "--vram-limit", "6"], "--vram-limit and --class say the same"),
        (["--device", "cude:0"], "--device cude:0: must be cpu, or cuda:0"),
        (["--name", "a/b"], "--name a/b: must be letters"),
        (["--name", ""], "--name : must be letters"),
    ],
)
def test_bad_options_are_refused_before_anything_starts(
    program: Program, supervisors: type[FakeSupervisors], options: list[str], said: str
) -> None:
    found = program("worker", *options)

    assert found.code == 2
    assert said in found.err.replace("\n", " ")
    assert supervisors.made == []


@pytest.mark.parametrize("options", [["--vram-limit", "0.001"], ["--grace", "-1"]])
def test_numbers_out_of_range_are_refused(
    program: Program, supervisors: type[FakeSupervisors], options: list[str]
) -> None:
    assert program("worker", *options).code == 2
    assert supervisors.made == []


def test_without_a_farm_it_says_what_to_use(program: Program) -> None:
    found = program("worker")

    assert found.code == 2
    assert "RENDERMILL_DATABASE_URL is not set" in found.err
    assert "rendermill render" in found.err


def test_every_device_gets_a_supervisor_once(
    program: Program, supervisors: type[FakeSupervisors]
) -> None:
    program("worker")
    program("worker", "--device", "cpu", "--device", "cpu", "--processes", "2", "--threads", "1")
    program("worker", "--class", "cpu")

    assert [[plan.device for plan in made.started] for made in supervisors.made] == [
        ["cuda:0", "cuda:1"],
        ["cpu"],
        ["cpu"],
    ]
    assert supervisors.made[1].started[0].processes == 2


@pytest.mark.parametrize(
    ("options", "limit", "vram_class"),
    [
        ([], None, None),
        (["--vram-limit", "7.5"], int(7.5 * 2**30), None),
        (["--class", "gpu8"], 8 << 30, "gpu8"),
        (["--class", "cpu"], None, "cpu"),
    ],
)
def test_a_worker_passes_for_what_it_is_told(
    program: Program,
    supervisors: type[FakeSupervisors],
    options: list[str],
    limit: int | None,
    vram_class: str | None,
) -> None:
    program("worker", *options, "--sleep", "22:00-06:00", "--name", "studio-1")

    (made,) = supervisors.made
    assert (made.orders.vram_limit, made.orders.vram_class) == (limit, vram_class)
    assert (made.orders.sleep, made.orders.name) == ("22:00-06:00", "studio-1")


def test_what_supervisors_say_last_is_shown_too(
    program: Program, supervisors: type[FakeSupervisors]
) -> None:
    supervisors.says = (Told(event="failed", device="cuda:0", message="it has 4 GiB"),)

    found = program("worker")

    assert "cuda:0: failed: it has 4 GiB" in found.err
    assert "the workers ended by themselves" in found.err
    assert found.code == 1
    assert supervisors.made[0].closed


def test_what_waiting_can_mend_is_said_and_the_workers_start(
    program: Program, supervisors: type[FakeSupervisors], monkeypatch: pytest.MonkeyPatch
) -> None:
    _obstruct(monkeypatch, SchemaMismatch("has schema 0001", hint="run: rendermill init"))

    found = program("worker")

    assert "not ready: has schema 0001" in found.err
    assert "→ run: rendermill init" in found.err
    assert len(supervisors.made) == 1


def test_what_waiting_cannot_mend_ends_the_command(
    program: Program, supervisors: type[FakeSupervisors], monkeypatch: pytest.MonkeyPatch
) -> None:
    _obstruct(monkeypatch, SettingError("a queue with other arguments", hint="delete it"))

    found = program("worker")

    assert (found.code, supervisors.made) == (2, [])
    assert "a queue with other arguments" in found.err


def test_a_home_that_cannot_be_made_is_said(
    program: Program, supervisors: type[FakeSupervisors], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()

    found = program("worker", at=tmp_path / "file" / "home")

    assert found.code == 2
    assert "cannot make the home" in found.err


def _obstruct(monkeypatch: pytest.MonkeyPatch, error: RendermillError) -> None:
    def found(_connections: Any) -> Iterator[RendermillError]:
        yield error

    monkeypatch.setattr(working, "obstacles", found)
