"""``rendermill contact-sheet``."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from scheduler.cli.console import HomeOption, out
from scheduler.cli.searching import complete_query
from scheduler.service.contact import Layout, contact_sheet, rows_of_job, save, spread
from scheduler.service.finding import Ask, catch_up, count
from scheduler.service.grid import MOST_COLUMNS, arrange, check_field, images_of
from scheduler.service.grid_html import HtmlOptions, save_html
from scheduler.service.grid_page import grid_page
from scheduler.service.home import open_home
from scheduler.settings import DEFAULT_HOME
from storage.contract.errors import InputError, NotFoundError
from storage.contract.keys import JOB_NAME
from storage.db import jobs
from storage.db.images import ImageRow
from storage.db.jobs import Job
from storage.opening import Mill

_HTML = (".html", ".htm")


def contact_sheet_command(
    query: Annotated[
        str,
        typer.Argument(
            metavar="JOB|QUERY", help="A job, or what to search for.", autocompletion=complete_query
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write (.png, .jpg, .webp, .html).")
    ],
    rows: Annotated[
        str | None, typer.Option(help="A grid with a row for each value: prompt, tag.NAME, ...")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(help="A grid with a column for each value (cfg, ...); or how many columns."),
    ] = None,
    cell: Annotated[int, typer.Option(min=32, max=1024, help="Pixels of a picture.")] = 160,
    limit: Annotated[int, typer.Option(min=1, max=2000, help="Pictures at most.")] = 400,
    link: Annotated[
        bool, typer.Option("--link/--embed", help="HTML that links pictures, or holds them small.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Put pictures on one page: a job's, or a query's, side by side by their values."""
    wide, field = _columns(columns)
    check_field(rows, "--rows")
    html = output.suffix.lower() in _HTML
    with open_home(home) as opened:
        if not opened.connections.is_farm:
            catch_up(opened.ledger)
        job = _job(opened, query)
        if html or rows is not None or field is not None:
            asked = Ask(job=job.name) if job else Ask(query=query)
            grid = arrange(
                images_of(opened.ledger, asked),
                title=query,
                rows=rows,
                columns=field,
                limit=limit,
                wide=wide,
            )
            if html:
                save_html(grid, opened.store, HtmlOptions(cell=cell, link=link), output)
                said = f"{len(grid.cells):,} of {grid.images:,} images"
            else:
                page = grid_page(grid, opened.store, cell=cell)
                save(page, output)
                said = f"{len(grid.cells):,} of {grid.images:,} images, {page.width}x{page.height}"
        else:
            chosen, of = _chosen(opened, query, job, limit)
            layout = Layout(title=job.name if job else query, of=of, columns=wide, cell=cell)
            page = contact_sheet(chosen, layout, opened.store)
            save(page, output)
            said = f"{len(chosen):,} of {of:,} images, {page.width}x{page.height}"
    out.print(f"{output}: {said}", markup=False, soft_wrap=True)


def _columns(given: str | None) -> tuple[int | None, str | None]:
    """How many columns, or the field they show."""
    if given is None:
        return None, None
    if not given.isdecimal():
        check_field(given, "--columns")
        return None, given
    if len(given) > 3 or not 1 <= int(given) <= MOST_COLUMNS:
        raise InputError(f"--columns {given}: must be from 1 to {MOST_COLUMNS}, or a field")
    return int(given), None


def _job(mill: Mill, query: str) -> Job | None:
    """The job of that name or number; None: it is a query.

    A single word that finds nothing was meant as a job's name.
    """
    try:
        with mill.ledger.read() as connection:
            return jobs.find(connection, query)
    except NotFoundError:
        if JOB_NAME.fullmatch(query) and not any(images_of(mill.ledger, Ask(query=query))):
            raise
        return None


def _chosen(mill: Mill, query: str, job: Job | None, limit: int) -> tuple[list[ImageRow], int]:
    """Images to show, and how many there are: of a job evenly spread, of a query the first."""
    if job is not None:
        chosen = spread(job.item_count, limit)
        return list(rows_of_job(mill.ledger, job.id, chosen)), job.item_count
    ask = Ask(query=query)
    found = [row for _, row in islice(images_of(mill.ledger, ask), limit)]
    return found, max(len(found), count(mill.ledger, ask, exact=True).images)
