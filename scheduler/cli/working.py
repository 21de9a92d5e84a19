"""``rendermill worker``: the worker processes of this machine, and steering those of others."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from scheduler.cli.console import HomeOption, JsonOption, err, escaped
from scheduler.cli.control import steer_worker
from scheduler.cli.manifest_options import check_choice
from scheduler.cli.rendering import (
    DeviceOption,
    FakeSecondsOption,
    GraceOption,
    ProcessesOption,
    RendererOption,
    ThreadsOption,
)
from scheduler.cli.stopping import stop_on_signals
from scheduler.service import processes
from scheduler.service.farm import obstacles, plan_worker
from scheduler.service.supervisors import Orders, Supervisors, Told
from scheduler.settings import DEFAULT_HOME
from storage.contract.classes import GIB, VRAM_CLASSES
from storage.contract.errors import InputError, RendermillError
from storage.settings import Connections, read_connections

LOOK_SECONDS = 0.5
_TIME = r"(?:[01]\d|2[0-3]):[0-5]\d"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
_DEVICE = r"cpu|mps|cuda:\d{1,3}"


def worker_command(
    worker: Annotated[
        str | None, typer.Argument(help="With an action: a worker's name or number.")
    ] = None,
    action: Annotated[str | None, typer.Argument(help="drain or resume")] = None,
    home: HomeOption = DEFAULT_HOME,
    device: DeviceOption = None,
    processes_: ProcessesOption = None,
    threads: ThreadsOption = None,
    vram_limit: Annotated[
        float | None,
        typer.Option(min=0.01, help="GiB of VRAM the device passes for, if it has not less."),
    ] = None,
    vram_class: Annotated[
        str | None, typer.Option("--class", help="VRAM class the device passes for, like gpu8.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What the fleet calls this machine. Default: its host name.")
    ] = None,
    sleep: Annotated[
        str | None, typer.Option(help="Hours of rest by this machine's clock, like 22:00-06:00.")
    ] = None,
    grace: GraceOption = 30.0,
    renderer: RendererOption = "diffusers",
    fake_seconds: FakeSecondsOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Work for a farm, a supervised process per device; or steer a worker: worker NAME drain."""
    if worker is not None:
        steer_worker(worker, action, home=home, as_json=as_json)
        return
    connections = read_connections(os.environ, home)
    if not connections.is_farm:
        raise InputError(
            "a worker needs a farm; RENDERMILL_DATABASE_URL is not set",
            hint="on one machine rendermill render starts its own workers",
        )
    devices = _devices(device, vram_class)
    orders = Orders(
        home=home,
        grace=grace,
        renderer=renderer,
        fake_seconds=fake_seconds,
        vram_limit=_limit(vram_limit, vram_class),
        vram_class=vram_class,
        name=_like("--name", name, _NAME, "letters, digits, '.', '_' and '-'"),
        sleep=_like("--sleep", sleep, f"{_TIME}-{_TIME}", "hours like 22:00-06:00"),
    )
    _make_home(home)
    _say_obstacles(connections)
    plans = plan_worker(devices, processes_, threads)
    supervisors = Supervisors(orders)
    asked = stop_on_signals(lambda again: supervisors.interrupt(at_once=again))
    try:
        for one in plans:
            supervisors.start(one)
            err.print(f"{one.device}: {one.processes} worker process(es)")
        while supervisors.running:
            supervisors.wait(LOOK_SECONDS)
            _say_all(supervisors)
    finally:
        supervisors.close()
        _say_all(supervisors)
    if not asked.is_set():
        raise RendermillError(
            "the workers ended by themselves", hint=f"their logs are in {home / 'logs'}"
        )


def _devices(asked: list[str] | None, vram_class: str | None) -> tuple[str, ...]:
    """Each device once; those of the machine unless some are named."""
    if vram_class is not None:
        check_choice("--class", vram_class, tuple(VRAM_CLASSES))
    for device in asked or []:
        _like("--device", device, _DEVICE, "cpu, or cuda:0, cuda:1 and so on")
    if vram_class == "cpu":
        if any(device != "cpu" for device in asked or []):
            raise InputError("--class cpu: is for --device cpu alone")
        return ("cpu",)
    return tuple(dict.fromkeys(asked or processes.devices()))


def _limit(vram_limit: float | None, vram_class: str | None) -> int | None:
    """Bytes a device passes for."""
    if vram_limit is not None and vram_class is not None:
        raise InputError("--vram-limit and --class say the same thing", hint="give one of them")
    if vram_class is not None:
        return VRAM_CLASSES[vram_class] * GIB or None
    return int(vram_limit * GIB) if vram_limit else None


def _like(option: str, value: str | None, pattern: str, wanted: str) -> str | None:
    if value is not None and not re.fullmatch(pattern, value):
        raise InputError(f"{option} {value}: must be {wanted}")
    return value


def _make_home(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make the home {home}: {error.strerror}",
            hint="its logs and locks go there; choose another with --home or RENDERMILL_HOME",
        ) from error


def _say_obstacles(connections: Connections) -> None:
    """Say what keeps the workers from working yet; they wait until it is mended.

    What waiting cannot mend is raised.
    """
    for error in obstacles(connections):
        if isinstance(error, InputError):
            raise error
        err.print(f"[yellow]not ready:[/] {escaped(error.message)}", soft_wrap=True)
        if error.hint:
            err.print(f"→ {escaped(error.hint)}", style="dim", soft_wrap=True)
        err.print("The workers try again until it works.", style="dim")


def _say_all(supervisors: Supervisors) -> None:
    for told in supervisors.hear():
        _say(told)


def _say(told: Told) -> None:
    colour = {"failed": "red", "died": "yellow"}.get(told.event)
    text = escaped(f"{told.device}: {told.event}" + (f": {told.message}" if told.message else ""))
    err.print(f"[{colour}]{text}[/]" if colour else text, soft_wrap=True)
