"""``rendermill contact-sheet``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scheduler.cli.console import HomeOption, out
from scheduler.service.contact import Layout, contact_sheet, rows_of_job, save, spread
from scheduler.service.home import open_home
from scheduler.settings import DEFAULT_HOME
from storage.db import jobs


def contact_sheet_command(
    job: Annotated[str, typer.Argument(help="The job's name or number.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write (.png, .jpg, .webp).")
    ],
    columns: Annotated[int | None, typer.Option(min=1, max=100)] = None,
    cell: Annotated[int, typer.Option(min=32, max=1024, help="Pixels of a picture.")] = 160,
    limit: Annotated[int, typer.Option(min=1, max=2000, help="Pictures at most.")] = 400,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Put a job's pictures on one page."""
    with open_home(home) as opened:
        with opened.ledger.read() as connection:
            found = jobs.find(connection, job)
        chosen = spread(found.item_count, limit)
        rows = list(rows_of_job(opened.ledger, found.id, chosen))
        layout = Layout(title=found.name, of=found.item_count, columns=columns, cell=cell)
        page = contact_sheet(rows, layout, opened.store)
    save(page, output)
    said = f"{len(rows):,} of {found.item_count:,} images, {page.width}x{page.height}"
    out.print(f"{output}: {said}", markup=False, soft_wrap=True)
