"""Steering jobs and workers, and seeing how a farm stands."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from scheduler.cli.console import (
    HomeOption,
    JsonOption,
    LimitOption,
    duration,
    escaped,
    facts,
    moment,
    one_line,
    out,
    print_json,
    table,
)
from scheduler.service import control
from scheduler.service.control import FarmStatus
from scheduler.service.home import open_home
from scheduler.settings import DEFAULT_HOME
from storage.contract.classes import GIB
from storage.contract.errors import InputError
from storage.contract.states import WorkerState
from storage.db.workers import Worker

JobArgument = Annotated[str, typer.Argument(help="The job's name or number.")]
FOLLOW_SECONDS = 1.0


def pause_command(
    job: JobArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False
) -> None:
    """Claim nothing more of a job until it is resumed. What is under way ends its batch."""
    with open_home(home) as opened:
        _said(control.pause(opened.ledger, job), as_json=as_json)


def cancel_command(
    job: JobArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False
) -> None:
    """End a job for good. What is rendered stays."""
    with open_home(home) as opened:
        _said(control.cancel(opened.ledger, job), as_json=as_json)


def retry_command(
    job: JobArgument,
    failed: Annotated[bool, typer.Option("--failed", help="Render the failed items again.")] = True,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make a job's failed items claimable again, and a cancelled job go on."""
    with open_home(home) as opened:
        found, count = control.retry_failed(opened.ledger, job)
    if as_json:
        print_json({"job": found, "items": count})
        return
    what = "1 failed item" if count == 1 else f"{count:,} failed items"
    out.print(f"{found.name}: {what} can be claimed again; it is {found.state}")


def priority_command(
    job: JobArgument,
    priority: Annotated[int, typer.Argument(min=-1000, max=1000, help="Higher goes first.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Change a job's priority; the next claim goes by it."""
    with open_home(home) as opened:
        found = control.set_priority(opened.ledger, job, priority)
    if as_json:
        print_json(found)
        return
    out.print(f"{found.name} has priority {found.priority}")


def why_command(
    job: JobArgument, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False
) -> None:
    """Say why a job does not go on, or what it is waiting for."""
    with open_home(home) as opened:
        said = control.why(opened, job)
    if as_json:
        print_json(said)
        return
    for sentence in said:
        out.print(escaped(sentence), soft_wrap=True)


def workers_command(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List the workers that are here, and what each is doing."""
    with open_home(home) as opened:
        found = control.present_workers(opened.ledger)
        now = opened.ledger.now()
    if as_json:
        print_json(found)
        return
    columns = ("no", "worker", "class", "memory", "state", "doing", "seen")
    listing = table(*columns, right=("no", "memory", "seen"), wide="doing")
    for worker in found:
        capability = worker.capability
        memory = capability.vram_bytes or capability.ram_bytes
        listing.add_row(
            str(worker.id),
            escaped(worker.name),
            capability.vram_class,
            f"{memory / GIB:.1f} GiB",
            worker.state,
            escaped(_doing(worker)),
            f"{duration(max(0.0, now - worker.seen_at))} ago",
        )
    out.print(listing if found else "No workers. Start one with: rendermill worker")


STEPS: Final = {"drain": control.drain, "resume": control.wake}


def steer_worker(worker: str, action: str | None, *, home: Path, as_json: bool) -> None:
    """``rendermill worker WORKER drain|resume``."""
    if action not in STEPS:
        said = "needs an action" if action is None else f"{action}: is no action"
        raise InputError(
            f"worker {worker} {said}; there are drain and resume",
            hint="rendermill worker NAME drain; without a name it starts this machine's workers",
        )
    with open_home(home) as opened:
        found = STEPS[action](opened.ledger, worker)
    if as_json:
        print_json(found)
        return
    out.print(f"{escaped(found.name)} is {found.state}")


def status_command(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Show the farm at a glance: jobs, workers by class, tickets, the leader."""
    with open_home(home) as opened:
        status = control.status(opened)
    if as_json:
        print_json(status)
        return
    _print_status(status)


def events_command(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on showing new ones.")] = False,
    job: Annotated[str | None, typer.Option(help="Of this job.")] = None,
    after: Annotated[int | None, typer.Option(min=0, help="Go on after this event.")] = None,
    limit: LimitOption = 30,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show what happened to jobs, tasks and workers, oldest first."""
    with open_home(home) as opened:
        if after is None:
            found = control.latest_events(opened.ledger, job, limit=limit)
        else:
            found = control.events_after(opened.ledger, job, after=after, limit=limit)
        last = found[-1].id if found else after or 0
        _print_events(found, as_json=as_json)
        while follow:
            time.sleep(FOLLOW_SECONDS)
            found = control.events_after(opened.ledger, job, after=last, limit=1000)
            last = found[-1].id if found else last
            _print_events(found, as_json=as_json)


def _print_events(found: list[Any], *, as_json: bool) -> None:
    """One a line, so that a stream of them can be read by programs too."""
    for event in found:
        if as_json:
            typer.echo(msgspec.json.encode(event).decode())
            continue
        detail = f"  {one_line(event.detail)}" if event.detail else ""
        out.print(
            f"[dim]{event.id} {moment(event.at)}[/]  {event.entity} {event.entity_id}"
            f" [bold]{event.verb}[/]{escaped(detail)}",
            soft_wrap=True,
        )


def _said(found: Any, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    out.print(f"{found.name} is {found.state}")


def _doing(worker: Worker) -> str:
    if worker.state == WorkerState.DRAINING:
        return worker.note or "rests"
    progress = worker.progress
    parts = [progress.phase]
    if progress.job:
        parts.append(progress.job)
    if progress.batches:
        parts.append(f"batch {progress.batch}/{progress.batches}")
    return "  ".join(parts)


def _print_status(status: FarmStatus) -> None:
    jobs_said = ", ".join(f"{count:,} {state}" for state, count in status.jobs.items()) or "none"
    rate = f"{status.images_per_second:.1f} images/s" if status.images_per_second else None
    out.print(
        facts(
            [
                ("ledger", status.ledger),
                ("broker", status.broker),
                ("storage", status.storage),
                ("leader", status.leader),
                ("jobs", jobs_said),
                ("items left", f"{status.items_left:,}"),
                ("speed", rate),
            ]
        )
    )
    out.print()
    listing = table("class", "workers", "idle", "tickets", right=("workers", "idle", "tickets"))
    for label, one in status.classes.items():
        tickets = "" if one.tickets is None else str(one.tickets)
        listing.add_row(label, str(one.workers), str(one.idle), tickets)
    out.print(listing if status.classes else "No live workers. Start one with: rendermill worker")
