"""``rendermill render`` and ``rendermill resume``."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Annotated

import msgspec
import typer

from scheduler.cli import dry_run
from scheduler.cli.console import (
    HomeOption,
    JsonOption,
    duration,
    err,
    escaped,
    facts,
    out,
    print_json,
)
from scheduler.cli.live import show
from scheduler.service import processes
from scheduler.service.home import open_home
from scheduler.service.local import LocalRun, RunOptions, Snapshot
from scheduler.service.options import SubmitOptions, pairs
from scheduler.service.prepare import Prepared, prepared
from scheduler.service.submit import submit
from scheduler.settings import DEFAULT_HOME, read_limits
from storage.contract.errors import InputError, RendermillError
from storage.contract.states import JobState
from storage.db import images, jobs
from storage.db.jobs import Job
from storage.models.resolve import describe
from storage.opening import Mill

EXIT_FAILED_ITEMS = 3
EXIT_INTERRUPTED = 130

DeviceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--device", help="cpu, cuda:0, ...; repeat for several. Default: all GPUs, else cpu."
    ),
]
ProcessesOption = Annotated[
    int | None,
    typer.Option(
        "--processes",
        min=1,
        max=256,
        help="Worker processes on the CPU. Default: by cores and memory.",
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(min=1, max=256, help="CPU threads of each. Default: by the size of the images."),
]
GraceOption = Annotated[
    float, typer.Option(min=0, help="Seconds a batch may take to end after Ctrl-C.")
]
RendererOption = Annotated[str, typer.Option(hidden=True)]
FakeSecondsOption = Annotated[float, typer.Option(hidden=True)]


def render(
    manifest: Annotated[
        str,
        typer.Argument(
            help="Prompts: .txt, .csv, .tsv, .jsonl, .parquet, or a .yaml job; - is stdin."
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="The job's name; the same manifest under it is found again.")
    ] = None,
    model: Annotated[
        str, typer.Option(help="For rows that name none: starter, a hub id, or a folder.")
    ] = "starter",
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="For all rows, whatever they say."),
    ] = None,
    defaults: Annotated[
        list[str] | None,
        typer.Option("--default", metavar="FIELD=VALUE", help="For rows that say nothing."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=2**32 - 1, help="Seeds of rows without one derive from it."),
    ] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    format_: Annotated[
        str | None, typer.Option("--format", help="txt, csv, tsv, jsonl, parquet or yaml.")
    ] = None,
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="Render the good rows, record the bad ones.")
    ] = False,
    only_show: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be made; write nothing.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    device: DeviceOption = None,
    processes_: ProcessesOption = None,
    threads: ThreadsOption = None,
    grace: GraceOption = 30.0,
    as_json: JsonOption = False,
    renderer: RendererOption = "diffusers",
    fake_seconds: FakeSecondsOption = 0.0,
) -> None:
    """Render a manifest on this machine."""
    _check_choice("--dtype", dtype, ("auto", "float32", "bfloat16", "float16"))
    devices = tuple(device or processes.devices())
    options = SubmitOptions(
        manifest=manifest,
        format=format_,
        name=name,
        model=model,
        dtype=dtype,
        seed=seed,
        overrides=pairs(overrides or [], "--set"),
        defaults=pairs(defaults or [], "--default"),
        skip_invalid=skip_invalid,
        on_cpu=devices == ("cpu",),
    )
    run_options = _run_options(devices, processes_, threads, grace, renderer, fake_seconds)
    limits = read_limits(os.environ)
    with prepared(options, limits=limits, describe=describe, dry_run=only_show) as work:
        if only_show:
            dry_run.show(work, home, run_options, as_json=as_json)
            return
        with open_home(home, create=True) as opened:
            submitted = submit(work, manifest, ledger=opened.ledger, store=opened.store)
            if not as_json:
                _say_submitted(work, submitted.job, created=submitted.created)
    with open_home(home) as opened:
        _run(opened, submitted.job, run_options, as_json=as_json)


def resume(
    job: Annotated[str, typer.Argument(help="The job's name or number.")],
    home: HomeOption = DEFAULT_HOME,
    device: DeviceOption = None,
    processes_: ProcessesOption = None,
    threads: ThreadsOption = None,
    grace: GraceOption = 30.0,
    as_json: JsonOption = False,
    renderer: RendererOption = "diffusers",
    fake_seconds: FakeSecondsOption = 0.0,
) -> None:
    """Go on with a job that was interrupted."""
    devices = tuple(device or processes.devices())
    run_options = _run_options(devices, processes_, threads, grace, renderer, fake_seconds)
    with open_home(home) as opened:
        with opened.ledger.read() as connection:
            found = jobs.find(connection, job)
        _run(opened, found, run_options, as_json=as_json)


def _run_options(
    devices: tuple[str, ...],
    processes_: int | None,
    threads: int | None,
    grace: float,
    renderer: str,
    fake_seconds: float,
) -> RunOptions:
    return RunOptions(
        devices=devices,
        processes=processes_,
        threads=threads,
        grace=grace,
        renderer=renderer,
        fake_seconds=fake_seconds,
    )


def _run(mill: Mill, job: Job, options: RunOptions, *, as_json: bool) -> None:
    """Render what is left of the job, show it live, and leave with the right exit code."""
    if job.state == JobState.CANCELLED:
        raise InputError(f"the job {job.name!r} was cancelled")
    if job.ended:
        _summarise(mill, job, seconds=None, as_json=as_json)
        raise typer.Exit(_exit_code(job))
    run = LocalRun(mill, job, options)
    asked: list[int] = []

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        asked.append(1)
        run.interrupt(at_once=len(asked) > 1)

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        run.start()
        last, seconds = show(run, quiet=as_json, interrupted=lambda: bool(asked))
    finally:
        run.close()
    with mill.ledger.read() as connection:
        job = jobs.get(connection, job.id)
    _leave(mill, job, last, seconds, interrupted=bool(asked), as_json=as_json)


def _leave(
    mill: Mill, job: Job, last: Snapshot, seconds: float, *, interrupted: bool, as_json: bool
) -> None:
    _summarise(mill, job, seconds=seconds, as_json=as_json)
    if job.ended:
        raise typer.Exit(_exit_code(job))
    if not interrupted:
        raise RendermillError(
            last.failure or "the workers ended before the job was done",
            hint=f"what is rendered is kept; go on with: rendermill resume {job.name}",
        )
    if not as_json:
        at = escaped(_home(mill))
        err.print(f"Interrupted. Go on with: [bold]rendermill resume {job.name}{at}[/]")
    raise typer.Exit(EXIT_INTERRUPTED)


def _summarise(mill: Mill, job: Job, *, seconds: float | None, as_json: bool) -> None:
    with mill.ledger.read() as connection:
        reasons = images.failure_counts(connection, job.id)
        truncated = images.truncated_count(connection, job.id)
    pictures = mill.store.locate(f"renders/{job.name}")
    if as_json:
        print_json(
            msgspec.structs.asdict(job)
            | {"failures": reasons, "truncated_prompts": truncated, "pictures": pictures}
        )
        return
    at = _home(mill)
    took = f" in {duration(seconds)}" if seconds is not None else ""
    rate = f", {job.done / seconds:.1f} images/s" if seconds and job.done else ""
    failures = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
    cut_short = f"{truncated:,} prompts were longer than the text encoder reads" * bool(truncated)
    out.print(
        facts(
            [
                ("rendered", f"{job.done:,} of {job.item_count:,} images{took}{rate}"),
                ("failed", f"{job.failed:,}: {failures}" if job.failed else None),
                ("rejected", f"{job.rejected:,} rows" if job.rejected else None),
                (
                    "note",
                    cut_short
                    and f"{cut_short}: rendermill images --job {job.name} --truncated{at}",
                ),
                ("pictures", pictures),
                ("next", f"rendermill contact-sheet {job.name} -o {job.name}.png{at}"),
                ("", f"rendermill images --job {job.name}{at}"),
            ]
        )
    )


def _say_submitted(work: Prepared, job: Job, *, created: bool) -> None:
    if not created:
        out.print(f"Job [bold]{job.name}[/] was made from this manifest before; going on with it.")
        return
    groups = f" in {len(work.groups):,} groups" if len(work.groups) > 1 else ""
    out.print(f"Job [bold]{job.name}[/]: {work.items:,} images{groups}.")
    if work.tag_names:
        out.print(f"Searchable tags: {escaped(', '.join(work.tag_names))}.", soft_wrap=True)
    for note in work.notes:
        out.print(f"Note: {escaped(note)}.")
    if work.problems.rejected_rows:
        out.print(
            f"[yellow]{work.problems.rejected_rows:,} rows rejected[/], for example:"
            f" {escaped(str(work.problems.first[0]))}",
            soft_wrap=True,
        )


def _exit_code(job: Job) -> int:
    return EXIT_FAILED_ITEMS if job.failed else 0


def _home(mill: Mill) -> str:
    """The option that names the home, where it must be said."""
    return "" if mill.connections.is_farm or mill.home == DEFAULT_HOME else f" --home {mill.home}"


def _check_choice(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{option} {value}: must be one of {', '.join(allowed)}")
