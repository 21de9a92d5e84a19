"""The program `rendermill`: its commands, and how errors leave it."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from scheduler.cli import (
    checking,
    control,
    doctor,
    estimating,
    exporting,
    farm,
    importing,
    keeping,
    reading,
    rendering,
    reproducing,
    searching,
    sheet,
    simulating,
    vectors,
    working,
)
from scheduler.cli.console import err, escaped, out
from storage.contract.errors import RendermillError

FARM = "Running a farm"

app = typer.Typer(
    name="rendermill",
    help="Batch rendering for text-to-image diffusion: from a manifest of prompts to pictures"
    " and a catalog.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("render")(rendering.render)
app.command("resume")(rendering.resume)
app.command("jobs")(reading.jobs_command)
app.command("job")(reading.job_command)
app.command("images")(reading.images_command)
app.command("image")(reading.image_command)
app.command("stats")(searching.stats_command)
app.command("index")(searching.index_command)
app.add_typer(searching.query_app, name="query")
app.add_typer(vectors.vectors_app, name="vectors")
app.command("export")(exporting.export_command)
app.command("fetch")(exporting.fetch_command)
app.add_typer(keeping.tag_app, name="tag")
app.command("rate")(keeping.rate_command)
app.add_typer(keeping.collection_app, name="collection")
app.command("delete")(keeping.delete_command)
app.command("undelete")(keeping.undelete_command)
app.command("purge")(keeping.purge_command)
app.add_typer(keeping.retention_app, name="retention")
app.command("contact-sheet")(sheet.contact_sheet_command)
app.command("check")(checking.check_command)
app.command("import")(importing.import_command)
app.command("reproduce")(reproducing.reproduce_command)
app.command("estimate")(estimating.estimate_command)
app.command("simulate")(simulating.simulate_command)
app.command("init", rich_help_panel=FARM)(farm.init_command)
app.command("scheduler", rich_help_panel=FARM)(farm.scheduler_command)
app.command("worker", rich_help_panel=FARM)(working.worker_command)
app.command("submit", rich_help_panel=FARM)(farm.submit_command)
app.command("status", rich_help_panel=FARM)(control.status_command)
app.command("workers", rich_help_panel=FARM)(control.workers_command)
app.command("pause", rich_help_panel=FARM)(control.pause_command)
app.command("cancel", rich_help_panel=FARM)(control.cancel_command)
app.command("retry", rich_help_panel=FARM)(control.retry_command)
app.command("priority", rich_help_panel=FARM)(control.priority_command)
app.command("why", rich_help_panel=FARM)(control.why_command)
app.command("events", rich_help_panel=FARM)(control.events_command)
app.command("doctor", rich_help_panel=FARM)(doctor.doctor_command)
app.command("health", rich_help_panel=FARM)(farm.health_command)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        out.print(f"rendermill {version('rendermill')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of the program itself."""


def main() -> None:
    """Run the command line; errors become one message and an exit code."""
    signal.signal(signal.SIGINT, _interrupted)
    try:
        app()
    except RendermillError as error:
        err.print(f"[red]error:[/] {escaped(error.message)}", soft_wrap=True)
        if error.hint:
            err.print(f"→ {escaped(error.hint)}", style="dim", soft_wrap=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        sys.stderr.close()
        sys.exit(0)


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(130)
