"""The command line of worker processes. People use ``rendermill``, which starts these."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from storage.contract.errors import (
    DeviceLost,
    LedgerError,
    ObjectError,
    RendermillError,
    SettingError,
)
from storage.settings import read_connections
from workers.logs import configure_logs
from workers.settings import EXIT_SURROUNDINGS, GRACE_SECONDS, RENDERERS, WorkerSettings

if TYPE_CHECKING:
    from workers.supervise import Place


def main() -> None:
    """Run what the command line says."""
    options = _parser().parse_args()
    configure_logs()
    sys.exit(_supervise(options) if options.command == "supervise" else _work(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, described in (
        ("run", "one worker process that looks for work by itself"),
        ("consume", "one worker process that a broker's tickets wake"),
        ("supervise", "the worker processes of this machine"),
    ):
        command = commands.add_parser(name, help=described)
        command.add_argument("--home", type=Path, required=True)
        command.add_argument("--device", default="cpu", help="cpu, cuda:0, ...")
        command.add_argument("--threads", type=int, default=1, help="CPU threads per worker")
        command.add_argument("--job", type=int, help="leave when this job needs no more work")
        command.add_argument("--vram-limit", type=int, help="bytes the device passes for")
        command.add_argument("--name", help="what this machine is called in the fleet")
        command.add_argument("--sleep", help="hours of rest, like 22:00-06:00")
        command.add_argument("--grace", type=float, default=GRACE_SECONDS)
        command.add_argument("--renderer", choices=RENDERERS, default="diffusers")
        command.add_argument("--fake-seconds", type=float, default=0.0)
    for name in ("run", "consume"):
        commands.choices[name].add_argument("--slot", type=int, default=0)
    supervise = commands.choices["supervise"]
    supervise.add_argument(
        "--processes", type=int, default=1, help="worker processes on the device"
    )
    supervise.add_argument("--vram-class", help="refuse to start if the device has less")
    return parser


def _work(options: argparse.Namespace) -> int:
    values = vars(options) | {"job_id": options.job}
    known = {name: values[name] for name in WorkerSettings.__struct_fields__ if name in values}
    try:
        return _program(options.command)(WorkerSettings(**known))
    except (LedgerError, ObjectError, DeviceLost) as error:
        return _say(error, EXIT_SURROUNDINGS)
    except RendermillError as error:
        return _say(error, 1)


def _program(command: str) -> Callable[[WorkerSettings], int]:
    if command == "consume":
        from workers.consumer import consume

        return consume
    from workers.wiring import run_worker

    return run_worker


def _say(error: RendermillError, code: int) -> int:
    sys.stderr.write(f"{_sentence(error)}\n")
    return code


def _sentence(error: RendermillError | OSError) -> str:
    hint = error.hint if isinstance(error, RendermillError) else None
    return f"{error} ({hint})" if hint else str(error)


def _check_class(options: argparse.Namespace) -> None:
    """A class that was asked for must be the device's: its queue is what wakes the worker."""
    if options.vram_class is None:
        return
    from workers.probe import class_at

    found = class_at(options.device, options.vram_limit)
    if found != options.vram_class:
        raise SettingError(
            f"{options.device} is of class {found}, less than the {options.vram_class} asked for",
            hint="leave --class away, or name a device that has as much",
        )


def _supervise(options: argparse.Namespace) -> int:
    from storage.db.schema import ensure_schema
    from storage.opening import open_ledger
    from workers.notice import SPOT_NOTICE, watch_for_notice
    from workers.stopping import Stop, obey_signals, watch_parent
    from workers.supervise import Event, Supervisor

    stop = Stop()
    obey_signals(stop, options.grace)
    watch_parent(stop, options.grace)

    def tell(event: Event) -> None:
        try:
            sys.stdout.write(msgspec.json.encode(event).decode() + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            pass  # the parent is gone; its end of our input says so too

    try:
        if notice := os.environ.get(SPOT_NOTICE):
            watch_for_notice(notice, stop, options.grace)
        _check_class(options)
        connections = read_connections(os.environ, options.home)
        consumes = connections.broker_url is not None and options.job is None
        ledger = open_ledger(connections)
        if not connections.is_farm:
            ensure_schema(ledger)
        supervisor = Supervisor(
            places=_places(options, "consume" if consumes else "run"),
            home=options.home,
            ledger=ledger,
            stop=stop,
            grace=options.grace,
            tell=tell,
            lasting=options.job is None,
        )
        well = supervisor.run()
    except (RendermillError, OSError) as error:
        tell(Event(event="failed", device=options.device, message=_sentence(error)))
        return EXIT_SURROUNDINGS
    tell(Event(event="ended", device=options.device))
    return 0 if well else EXIT_SURROUNDINGS


def _places(options: argparse.Namespace, program: str) -> list[Place]:
    from workers.supervise import Place, worker_command, worker_environment

    return [
        Place(
            device=options.device,
            slot=slot,
            command=worker_command(program, *_passed_on(options), "--slot", str(slot)),
            environment=worker_environment(options.threads),
        )
        for slot in range(options.processes)
    ]


def _passed_on(options: argparse.Namespace) -> list[str]:
    """The options a worker process gets from its supervisor's."""
    names = (
        *("home", "device", "threads", "grace", "renderer", "fake_seconds"),
        *("job", "vram_limit", "name", "sleep"),
    )
    passed = {name.replace("_", "-"): getattr(options, name) for name in names}
    return [
        str(part)
        for name, value in passed.items()
        if value is not None
        for part in (f"--{name}", value)
    ]
