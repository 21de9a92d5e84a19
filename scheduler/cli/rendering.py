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
from scheduler.cli.manifest_options import (
    DTYPES,
    DefaultsOption,
    DryRunOption,
    DtypeOption,
    DynamicPromptsOption,
    FormatOption,
    ManifestArgument,
    ModelOption,
    NameOption,
    OverridesOption,
    ReuseOption,
    SeedOption,
    SkipInvalidOption,
    WildcardsOption,
    check_choice,
    say_submitted,
)
from scheduler.cli.output_options import (
    C2paOption,
    ImageFormatOption,
    MetadataOption,
    PngLevelOption,
    QualityOption,
    SafetyModelOption,
    SafetyOption,
    ThumbnailsOption,
    WatermarkOption,
    asked,
)
from scheduler.service import control, processes
from scheduler.service.home import open_home
from scheduler.service.local import LocalRun, RunOptions
from scheduler.service.options import SubmitOptions, pairs
from scheduler.service.output import refuse_unmakeable
from scheduler.service.prepare import prepared
from scheduler.service.references import read_sources
from scheduler.service.reusing import Reuse
from scheduler.service.submit import submit
from scheduler.service.watching import Snapshot
from scheduler.settings import DEFAULT_HOME, read_limits
from storage.contract.classes import GIB
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
VramLimitOption = Annotated[
    float | None,
    typer.Option(
        "--vram-limit",
        min=0.01,
        help="GiB of VRAM to use at most; a CPU then passes for a card with so much.",
    ),
]
GraceOption = Annotated[
    float, typer.Option(min=0, help="Seconds a batch may take to end after Ctrl-C.")
]
RendererOption = Annotated[str, typer.Option(hidden=True)]
FakeSecondsOption = Annotated[float, typer.Option(hidden=True)]


def render(
    manifest: ManifestArgument,
    name: NameOption = None,
    model: ModelOption = "starter",
    overrides: OverridesOption = None,
    defaults: DefaultsOption = None,
    seed: SeedOption = None,
    dtype: DtypeOption = "auto",
    format_: FormatOption = None,
    skip_invalid: SkipInvalidOption = False,
    dynamic_prompts: DynamicPromptsOption = None,
    wildcards: WildcardsOption = None,
    image_format: ImageFormatOption = None,
    quality: QualityOption = None,
    png_level: PngLevelOption = None,
    metadata: MetadataOption = None,
    thumbnails: ThumbnailsOption = None,
    safety: SafetyOption = None,
    safety_model: SafetyModelOption = None,
    watermark: WatermarkOption = None,
    c2pa: C2paOption = None,
    reuse: ReuseOption = True,
    only_show: DryRunOption = False,
    home: HomeOption = DEFAULT_HOME,
    device: DeviceOption = None,
    processes_: ProcessesOption = None,
    threads: ThreadsOption = None,
    vram_limit: VramLimitOption = None,
    grace: GraceOption = 30.0,
    as_json: JsonOption = False,
    renderer: RendererOption = "diffusers",
    fake_seconds: FakeSecondsOption = 0.0,
) -> None:
    """Render a manifest on this machine."""
    check_choice("--dtype", dtype, DTYPES)
    output = asked(
        format=image_format,
        quality=quality,
        png_level=png_level,
        metadata=metadata,
        thumbnails=thumbnails,
        safety=safety,
        safety_model=safety_model,
        watermark=watermark,
        c2pa=c2pa,
    )
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
        dynamic_prompts=dynamic_prompts,
        wildcards=tuple(wildcards or ()),
        output=output,
        on_cpu=devices == ("cpu",),
    )
    run_options = _run_options(
        devices, processes_, threads, vram_limit, grace, renderer, fake_seconds
    )
    limits = read_limits(os.environ)
    sources = read_sources(os.environ, lambda: open_home(home))
    with prepared(
        options, limits=limits, describe=describe, dry_run=only_show, sources=sources
    ) as work:
        if only_show:
            dry_run.show(work, home, run_options, as_json=as_json)
            return
        refuse_unmakeable(work.output, os.environ)
        with open_home(home, create=True) as opened:
            submitted = submit(
                work,
                manifest,
                ledger=opened.ledger,
                store=opened.store,
                reuse=Reuse.at(opened.ledger, opened.home) if reuse else None,
            )
            if not as_json:
                say_submitted(
                    work, submitted.job, created=submitted.created, linked=submitted.linked
                )
    with open_home(home) as opened:
        _run(opened, submitted.job, run_options, as_json=as_json)


def resume(
    job: Annotated[str, typer.Argument(help="The job's name or number.")],
    home: HomeOption = DEFAULT_HOME,
    device: DeviceOption = None,
    processes_: ProcessesOption = None,
    threads: ThreadsOption = None,
    vram_limit: VramLimitOption = None,
    grace: GraceOption = 30.0,
    as_json: JsonOption = False,
    renderer: RendererOption = "diffusers",
    fake_seconds: FakeSecondsOption = 0.0,
) -> None:
    """Go on with a job that was interrupted or paused; on a farm its workers do."""
    devices = tuple(device or processes.devices())
    run_options = _run_options(
        devices, processes_, threads, vram_limit, grace, renderer, fake_seconds
    )
    with open_home(home) as opened:
        with opened.ledger.read() as connection:
            found = jobs.find(connection, job)
        if found.state == JobState.PAUSED or opened.connections.is_farm:
            found = control.resume(opened.ledger, job)
        if not opened.connections.is_farm:
            _run(opened, found, run_options, as_json=as_json)
        elif as_json:
            print_json(found)
        else:
            out.print(f"{found.name} is {found.state}")


def _run_options(
    devices: tuple[str, ...],
    processes_: int | None,
    threads: int | None,
    vram_limit: float | None,
    grace: float,
    renderer: str,
    fake_seconds: float,
) -> RunOptions:
    return RunOptions(
        vram_limit=int(vram_limit * GIB) if vram_limit else None,
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


def _exit_code(job: Job) -> int:
    return EXIT_FAILED_ITEMS if job.failed else 0


def _home(mill: Mill) -> str:
    """The option that names the home, where it must be said."""
    return "" if mill.connections.is_farm or mill.home == DEFAULT_HOME else f" --home {mill.home}"
