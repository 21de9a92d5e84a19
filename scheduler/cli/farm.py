"""``rendermill init``, ``scheduler``, ``submit`` and ``health``: running a farm."""

from __future__ import annotations

import getpass
import os
import re
import socket
from contextlib import suppress
from datetime import datetime
from typing import Annotated

import typer

from scheduler.cli import dry_run
from scheduler.cli.console import HomeOption, JsonOption, err, escaped, out, print_json
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
from scheduler.cli.stopping import stop_on_signals
from scheduler.loops.run import Loop
from scheduler.loops.stalls import reasons
from scheduler.loops.webhook_post import read_hook_settings
from scheduler.loops.webhook_rules import parse_target
from scheduler.loops.webhooks import WebHooks
from scheduler.service import processes
from scheduler.service.farm import fleet_has_no_gpu, initialise
from scheduler.service.health import is_scheduler_well, is_worker_well
from scheduler.service.home import open_home
from scheduler.service.keeping import keep_for_a_moment
from scheduler.service.local import RunOptions
from scheduler.service.options import SubmitOptions, pairs
from scheduler.service.prepare import prepared
from scheduler.service.references import read_sources
from scheduler.service.reusing import Reuse
from scheduler.service.submit import Terms, submit
from scheduler.settings import DEFAULT_HOME, read_limits
from storage.contract.errors import InputError
from storage.models.resolve import describe
from storage.opening import open_tickets
from storage.settings import read_connections


def init_command(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Make or upgrade the tables, make the queues, check the bucket; safe to repeat."""
    done = initialise(read_connections(os.environ, home))
    if as_json:
        print_json(done)
        return
    for part, said in done.items():
        out.print(f"[green]✓[/] {part:<9} {escaped(said)}", soft_wrap=True)


def scheduler_command(home: HomeOption = DEFAULT_HOME) -> None:
    """Run the loops that keep work moving. Several may run; one leads, the others stand by."""
    stop = stop_on_signals()
    connections = read_connections(os.environ, home)
    if not connections.is_farm:
        raise InputError(
            "a scheduler is needed for a farm only; RENDERMILL_DATABASE_URL is not set",
            hint="on one machine rendermill render does all by itself",
        )
    with open_home(home) as opened:
        office = None
        if connections.broker_url is not None:
            office = open_tickets(connections.broker_url)
        loop = Loop(
            ledger=opened.ledger,
            office=office,
            holder=f"{socket.gethostname()}/{os.getpid()}",
            is_alive=processes.is_alive,
            keep=lambda: keep_for_a_moment(opened.ledger, opened.store),
        )
        hooks = WebHooks(opened.ledger, read_hook_settings(os.environ), may_send=lambda: loop.leads)
        err.print(f"scheduler {loop.holder} runs; Ctrl-C ends it")
        hooks.start()
        try:
            loop.run(stop)
        finally:
            hooks.end()
            if office is not None:
                office.close()


def submit_command(
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
    priority: Annotated[
        int | None, typer.Option(min=-1000, max=1000, help="Higher goes first; 0 is usual.")
    ] = None,
    deadline: Annotated[
        str | None, typer.Option(help="When it is needed: 2026-12-24T18:00, or in 90m, 6h, 2d.")
    ] = None,
    cpu: Annotated[str, typer.Option(help="May CPUs render it? auto, never or only.")] = "auto",
    webhook: Annotated[
        str | None, typer.Option(help="URL that is told when the job is done or stalled.")
    ] = None,
    submitter: Annotated[
        str | None, typer.Option(help="Whose job it is, for fair shares. Default: you.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Hand a manifest to the farm; returns at once."""
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
    check_choice("--cpu", cpu, ("auto", "never", "only"))
    if webhook is not None:
        parse_target(webhook)
    with open_home(home) as opened:
        terms = Terms(
            submitter=submitter or _user(),
            deadline_at=_deadline(deadline, opened.ledger.now()),
            cpu=cpu,
            webhook=webhook,
        )
        options = SubmitOptions(
            manifest=manifest,
            format=format_,
            name=name,
            model=model,
            dtype=dtype,
            seed=seed,
            priority=priority,
            overrides=pairs(overrides or [], "--set"),
            defaults=pairs(defaults or [], "--default"),
            skip_invalid=skip_invalid,
            dynamic_prompts=dynamic_prompts,
            wildcards=tuple(wildcards or ()),
            output=output,
            on_cpu=cpu == "only" or fleet_has_no_gpu(opened.ledger),
        )
        limits = read_limits(os.environ)
        sources = read_sources(os.environ, lambda: open_home(home))
        with prepared(
            options, limits=limits, describe=describe, dry_run=only_show, sources=sources
        ) as work:
            if only_show:
                one = RunOptions(devices=("cpu",) if options.on_cpu else ("cuda:0",), processes=1)
                dry_run.show(work, home, one, as_json=as_json)
                if not as_json:
                    out.print("The time is that of one worker; a fleet shares it.", style="dim")
                return
            made = submit(
                work,
                manifest,
                ledger=opened.ledger,
                store=opened.store,
                terms=terms,
                reuse=Reuse.at(opened.ledger, opened.home) if reuse else None,
            )
        with opened.ledger.read() as connection:
            against = reasons(connection, made.job.id, now=opened.ledger.now())
    if as_json:
        said = {"created": made.created, "linked": made.linked, "waits_because": against}
        print_json({"job": made.job} | said)
        return
    say_submitted(work, made.job, created=made.created, linked=made.linked)
    for reason in against:
        out.print(f"[yellow]It waits:[/] {escaped(reason)}", soft_wrap=True)
    out.print(f"Watch it: [bold]rendermill job {made.job.name} --watch[/]")


def health_command(
    program: Annotated[str, typer.Argument(help="scheduler or worker")],
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Exit code 0 if that program of this machine was heard from just now, else 1."""
    check_choice("health", program, ("scheduler", "worker"))
    check = is_scheduler_well if program == "scheduler" else is_worker_well
    with open_home(home) as opened:
        well, said = check(opened.ledger)
    out.print(escaped(said), soft_wrap=True)
    raise typer.Exit(0 if well else 1)


def _user() -> str:
    with suppress(OSError, KeyError):
        return getpass.getuser()
    return ""


_UNITS = {"m": 60, "h": 3600, "d": 86400}


def _deadline(text: str | None, now: float) -> float | None:
    """A point in time, or a time from now on, in seconds since the epoch.

    `now` is the ledger's: deadlines are held against its clock. A date without a zone is meant
    where the user is.
    """
    if text is None:
        return None
    if found := re.fullmatch(r"(\d{1,5})([mhd])", text):
        return now + int(found[1]) * _UNITS[found[2]]
    try:
        at = datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise InputError(
            f"--deadline {text}: is neither a date with time nor a time from now",
            hint="write it like 2026-12-24T18:00 or 6h",
        ) from None
    if at <= now:
        raise InputError(f"--deadline {text}: is in the past")
    return at
