"""``rendermill reproduce``: an image once more, from what is known of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from scheduler.cli.console import HomeOption, JsonOption, escaped, facts, out, print_json, table
from scheduler.cli.live import show
from scheduler.cli.manifest_options import DTYPES, check_choice
from scheduler.service import processes
from scheduler.service.difference import TOLERANCE, Difference, Verdict, causes, difference
from scheduler.service.home import open_home
from scheduler.service.local import LocalRun, RunOptions
from scheduler.service.reproduce import (
    Original,
    original_in_catalog,
    original_in_file,
    rendered_apart,
    result_of,
)
from scheduler.settings import DEFAULT_HOME, read_limits
from storage.contract.errors import NotFoundError, RendermillError

EXIT_DIFFERS: Final = 3

_WORDS: Final = {
    Verdict.EQUAL: "[green]equal[/]: every pixel is the same",
    Verdict.WITHIN: "[green]within tolerance[/]",
    Verdict.DIFFERS: "[red]differs[/]",
    Verdict.ANOTHER_SIZE: "[red]differs[/]: it has another size",
}


def reproduce_command(
    image: Annotated[str, typer.Argument(help="JOB/ITEM of the catalog, or a picture's file.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Keep the new picture in this file.")
    ] = None,
    tolerance: Annotated[
        int, typer.Option(min=0, max=255, help="Levels of 255 that still count as the same.")
    ] = TOLERANCE,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda:0, ... Default: the first GPU, else cpu.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="auto, float32, ...: in another one than it was rendered in.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
    renderer: Annotated[str, typer.Option(hidden=True)] = "diffusers",
) -> None:
    """Render an image again from its own metadata, and say how the two compare."""
    original = _original(image, home)
    if dtype is not None:
        check_choice("--dtype", dtype, DTYPES)
        original = msgspec.structs.replace(original, dtype=dtype)
    chosen = device or processes.devices()[0]
    options = RunOptions(devices=(chosen,), processes=1, renderer=renderer, apart=True)
    limits = read_limits(os.environ)
    with rendered_apart(original, limits=limits, on_cpu=chosen == "cpu") as (mill, job):
        run = LocalRun(mill, job, options)
        try:
            run.start()
            last, _ = show(run, quiet=as_json, interrupted=lambda: False)
        finally:
            run.close()
        if not last.job.ended:
            raise RendermillError(last.failure or "the worker ended before the image was done")
        again = result_of(mill, last.job)
    found = difference(original.picture, again.picture, tolerance=tolerance)
    if output is not None:
        output.write_bytes(again.picture)
    _report(original, again, found, output, as_json=as_json)
    raise typer.Exit(0 if found.is_good else EXIT_DIFFERS)


def _original(image: str, home: Path) -> Original:
    path = Path(image)
    if not path.is_file():
        with open_home(home) as opened:
            return original_in_catalog(opened, image)
    try:
        opened = open_home(home)
    except NotFoundError:  # a file needs no catalog, unless it was made from pictures
        return original_in_file(path)
    with opened:
        return original_in_file(path, opened.store)


def _report(
    original: Original, again: Original, found: Difference, output: Path | None, *, as_json: bool
) -> None:
    changed = causes(original.rendering, again.rendering)
    if as_json:
        print_json(
            {"image": original.name}
            | msgspec.structs.asdict(found)
            | {"changed_facts": [dict(zip(_COLUMNS, one, strict=True)) for one in changed]}
            | {"file": str(output) if output else None}
        )
        return
    apart = None
    if found.largest:
        apart = (
            f"at most {found.largest} of 255 levels, {found.mean:.3g} on average,"
            f" in {found.changed:.2%} of the samples"
        )
    out.print(f"{escaped(original.name)}: {_WORDS[found.verdict]}")
    out.print(facts([("apart by", apart), ("new picture", str(output) if output else None)]))
    if changed:
        listing = table(*_COLUMNS, wide="now")
        for one in changed:
            listing.add_row(*map(escaped, one))
        out.print(listing)
    elif not found.is_good:
        out.print("Nothing that is recorded of how they were made differs.")


_COLUMNS: Final = ("made with", "then", "now")
