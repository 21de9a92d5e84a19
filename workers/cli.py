"""The command line of worker processes. People use ``rendermill``, which starts these."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec
import structlog

from storage.contract.errors import DeviceLost, LedgerError, ObjectError, RendermillError
from storage.home import CATALOG
from workers.settings import EXIT_SURROUNDINGS, GRACE_SECONDS, RENDERERS, WorkerSettings


def main() -> None:
    """Run what the command line says."""
    options = _parser().parse_args()
    _configure_logging()
    sys.exit(_supervise(options) if options.command == "supervise" else _run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, described in (
        ("run", "one worker process"),
        ("supervise", "the worker processes of this machine"),
    ):
        command = commands.add_parser(name, help=described)
        command.add_argument("--home", type=Path, required=True)
        command.add_argument("--device", default="cpu", help="cpu, cuda:0, ...")
        command.add_argument("--threads", type=int, default=1, help="CPU threads per worker")
        command.add_argument("--job", type=int, help="leave when this job needs no more work")
        command.add_argument("--grace", type=float, default=GRACE_SECONDS)
        command.add_argument("--renderer", choices=RENDERERS, default="diffusers")
        command.add_argument("--fake-seconds", type=float, default=0.0)
    commands.choices["run"].add_argument("--slot", type=int, default=0)
    commands.choices["supervise"].add_argument(
        "--processes", type=int, default=1, help="worker processes on the device"
    )
    return parser


def _run(options: argparse.Namespace) -> int:
    from workers.wiring import run_worker

    settings = WorkerSettings(
        home=options.home,
        device=options.device,
        threads=options.threads,
        slot=options.slot,
        job_id=options.job,
        grace=options.grace,
        renderer=options.renderer,
        fake_seconds=options.fake_seconds,
    )
    try:
        run_worker(settings)
    except (LedgerError, ObjectError, DeviceLost) as error:
        return _say(error, EXIT_SURROUNDINGS)
    except RendermillError as error:
        return _say(error, 1)
    return 0


def _say(error: RendermillError, code: int) -> int:
    hint = f" ({error.hint})" if error.hint else ""
    sys.stderr.write(f"{error.message}{hint}\n")
    return code


def _supervise(options: argparse.Namespace) -> int:
    from storage.db.engine import open_sqlite
    from storage.db.schema import ensure_schema
    from workers.stopping import Stop, obey_signals, watch_parent
    from workers.supervise import Event, Place, Supervisor, worker_command, worker_environment

    stop = Stop()
    obey_signals(stop, options.grace)
    watch_parent(stop, options.grace)

    def tell(event: Event) -> None:
        try:
            sys.stdout.write(msgspec.json.encode(event).decode() + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            pass  # the parent is gone; its end of our input says so too

    places = [
        Place(
            device=options.device,
            slot=slot,
            command=worker_command(*_passed_on(options), "--slot", str(slot)),
            environment=worker_environment(options.threads),
        )
        for slot in range(options.processes)
    ]
    try:
        ledger = open_sqlite(options.home / CATALOG)
        ensure_schema(ledger)
        supervisor = Supervisor(
            places=places,
            home=options.home,
            ledger=ledger,
            stop=stop,
            grace=options.grace,
            tell=tell,
        )
        well = supervisor.run()
    except (RendermillError, OSError) as error:
        tell(Event(event="failed", device=options.device, message=str(error)))
        return EXIT_SURROUNDINGS
    tell(Event(event="ended"))
    return 0 if well else EXIT_SURROUNDINGS


def _passed_on(options: argparse.Namespace) -> list[str]:
    """The options a worker process gets from its supervisor's."""
    passed = [
        ("--home", options.home),
        ("--device", options.device),
        ("--threads", options.threads),
        ("--grace", options.grace),
        ("--renderer", options.renderer),
        ("--fake-seconds", options.fake_seconds),
        ("--job", options.job),
    ]
    return [str(part) for name, value in passed if value is not None for part in (name, value)]


def _configure_logging() -> None:
    """JSON lines on standard error, which the supervisor keeps in a file per worker."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
