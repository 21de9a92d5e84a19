"""``rendermill check``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Final

import msgspec
import typer
from rich.status import Status

from scheduler.cli.console import HomeOption, JsonOption, err, escaped, out, table
from scheduler.service.checking.findings import AGAIN, Finding, Summary, Wanted
from scheduler.service.checking.journal import Journal, Place
from scheduler.service.checking.run import check
from scheduler.settings import DEFAULT_HOME
from storage.opening import Mill, open_mill
from storage.settings import read_connections

EXIT_FOUND: Final = 3
SHOWN: Final = 50


def check_command(
    job: Annotated[str | None, typer.Option(help="Only this job's images.")] = None,
    query: Annotated[
        str | None,
        typer.Option(help="Only images that match; no objects without a row."),
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every picture and compare its SHA-256.")
    ] = False,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Make thumbnails, have pictures rendered again, clear what has no row."
        ),
    ] = False,
    delete_orphans: Annotated[
        bool,
        typer.Option("--delete-orphans", help="Remove objects without a row; else: to lost/."),
    ] = False,
    rate: Annotated[
        float | None, typer.Option(min=0.1, help="Objects to look at a second, at most.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Requests at once.")] = 8,
    again: Annotated[
        bool, typer.Option("--again", help="Begin anew where an earlier check was interrupted.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Compare the catalog with the stored pictures; exit code 3 if something is wrong."""
    wanted = Wanted(
        job=job,
        query=query,
        deep=deep,
        repair=repair,
        delete_orphans=delete_orphans,
        rate=rate,
        again=again,
        threads=threads,
    )
    with (
        open_mill(read_connections(os.environ, home), threads=threads) as mill,
        Journal(mill.home, wanted) as journal,
    ):
        if journal.resumed and not as_json:
            out.print("Going on where an earlier check was interrupted (--again begins anew).")
        summary = _checked(mill, wanted, journal)
        (_print_json if as_json else _print_table)(summary, journal, wanted)
        journal.finish()
    raise typer.Exit(EXIT_FOUND if summary.left else 0)


def _checked(mill: Mill, wanted: Wanted, journal: Journal) -> Summary:
    with Status("Looking ...", console=err) as status:

        def told(place: Place) -> None:
            status.update(f"{place.objects:,} objects, {place.looked_at:,} images")

        return check(mill, wanted, journal, told=told)


def _print_table(summary: Summary, journal: Journal, wanted: Wanted) -> None:
    findings = journal.findings()
    if first := list(islice(findings, SHOWN)):
        listing = table("found", "image", "object", "what", wide="what")
        for one in first:
            listing.add_row(one.kind, escaped(_name(one)), escaped(one.key), escaped(_said(one)))
        out.print(listing)
    total = summary.mended + summary.left
    if total > SHOWN:
        out.print(f"... and {total - SHOWN:,} more; --json has them all")
    for kind, count in sorted(summary.counts.items()):
        out.print(f"{kind}: {count:,}")
    out.print(_looked(summary, wanted), soft_wrap=True)
    for line in _next_steps(summary, journal, wanted):
        out.print(f"→ {escaped(line)}", style="dim", soft_wrap=True)


def _looked(summary: Summary, wanted: Wanted) -> str:
    said = f"{summary.looked_at:,} images were compared with their objects"
    if wanted.query is None:
        said += f", {summary.objects:,} objects with their rows"
    how = "whole" if wanted.deep else "by size: a picture with other bytes of the same size shows"
    said += f"; pictures {how}" + ("" if wanted.deep else " only with --deep")
    return f"{said}. {'Nothing is wrong.' if not summary.counts else ''}".strip()


def _next_steps(summary: Summary, journal: Journal, wanted: Wanted) -> Iterator[str]:
    if summary.left and not wanted.repair:
        yield "mend what can be mended: rendermill check --repair"
    again = {one.job for one in journal.findings() if one.mended == AGAIN}
    for job in sorted(again)[:5]:
        yield f"have them rendered, where no workers run: rendermill resume {job}"


def _name(one: Finding) -> str:
    return f"{one.job}/{one.item}" if one.item is not None else one.job


def _said(one: Finding) -> str:
    done = one.mended or (f"left: {one.left}" if one.left else "")
    return "; ".join(text for text in (one.detail, done) if text)


def _print_json(summary: Summary, journal: Journal, _wanted: Wanted) -> None:
    """One document, written as it is read: there may be millions of findings."""
    sys.stdout.write('{"summary": ' + msgspec.json.encode(summary).decode() + ',\n "findings": [')
    for number, one in enumerate(journal.findings()):
        sys.stdout.write((",\n  " if number else "\n  ") + msgspec.json.encode(one).decode())
    sys.stdout.write("\n ]}\n")
