"""``rendermill vectors``: what searches by meaning compare."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from scheduler.cli.console import HomeOption, JsonOption, err, escaped, out, print_json, table
from scheduler.service import meaning
from scheduler.service.home import open_home
from scheduler.settings import DEFAULT_HOME
from storage.contract.errors import InputError
from storage.db import vectors
from storage.db.vectors import Of, Status
from storage.opening import Mill

vectors_app = typer.Typer(help="Vectors of prompts and pictures, for searching by meaning.")

PicturesOption = Annotated[bool, typer.Option("--pictures", help="Of pictures, not of prompts.")]


@vectors_app.command("enable")
def enable_command(
    model: Annotated[
        str, typer.Argument(help="wordllama, or a folder or hub id; for --pictures a CLIP model.")
    ] = meaning.DEFAULT_MODEL,
    pictures: PicturesOption = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Have idle workers make vectors with a model; those of another model are dropped."""
    kind = Of.PICTURE if pictures else Of.PROMPT
    if pictures and model == meaning.DEFAULT_MODEL:
        raise InputError(f"{model} knows words only", hint="name a CLIP model, by folder or hub id")
    with open_home(home) as mill, mill.ledger.write() as connection:
        vectors.enable(connection, kind, model, now=mill.ledger.now())
    out.print(f"Idle workers make vectors of {kind}s with {escaped(model)}.")
    out.print("[dim]Now: rendermill vectors build[/]")


@vectors_app.command("disable")
def disable_command(pictures: PicturesOption = False, home: HomeOption = DEFAULT_HOME) -> None:
    """Make no more vectors, and drop those that are there."""
    kind = Of.PICTURE if pictures else Of.PROMPT
    with open_home(home) as mill, mill.ledger.write() as connection:
        vectors.disable(connection, kind)
    out.print(f"There are no vectors of {kind}s any more.")


@vectors_app.command("status")
def status_command(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """How many vectors there are, and how many are still to be made."""
    with open_home(home) as mill:
        _show(meaning.statuses(mill.ledger), as_json=as_json)


@vectors_app.command("build")
def build_command(
    retry: Annotated[
        bool, typer.Option("--retry", help="Try again what could not be computed.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Make all vectors that are due, now and here; may be stopped and repeated."""
    with open_home(home) as mill:
        if not meaning.statuses(mill.ledger):
            raise InputError(
                "vectors are not enabled", hint="enable them: rendermill vectors enable"
            )
        if retry:
            with mill.ledger.write() as connection:
                for kind in Of:
                    vectors.retry(connection, kind)
        _show(_build(mill), as_json=as_json)


def _build(mill: Mill) -> list[Status]:
    told: list[Status] = []
    columns = (TextColumn("vectors"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=err, transient=True) as bar,
        closing(meaning.build(mill.ledger, mill.home)) as steps,
    ):
        shown = bar.add_task("vectors")
        for told in steps:
            done = sum(one.done + one.faults for one in told)
            left = sum(one.due + one.unseen for one in told)
            bar.update(shown, completed=done, total=done + left)
    return told


def _show(told: list[Status], *, as_json: bool) -> None:
    if as_json:
        print_json(told)
        return
    right = ("made", "due", "leased", "given up", "images to look at")
    listing = table("of", "model", *right, right=right)
    for one in told:
        counts = (one.done, one.due, one.leased, one.faults, one.unseen)
        listing.add_row(f"{one.kind}s", escaped(one.model), *(f"{count:,}" for count in counts))
    out.print(listing if told else "Vectors are off; turn them on: rendermill vectors enable")
