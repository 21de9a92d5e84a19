"""``rendermill doctor``."""

from __future__ import annotations

import os
from typing import Final

import typer

from scheduler.cli.console import HomeOption, JsonOption, escaped, out, print_json
from scheduler.service.doctor import Verdict, examine
from scheduler.settings import DEFAULT_HOME
from storage.settings import read_connections

_MARKS: Final = {
    Verdict.GOOD: "[green]✓[/]",
    Verdict.WARNING: "[yellow]![/]",
    Verdict.BAD: "[red]✗[/]",
}


def doctor_command(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Look at every part and say what is wrong, what will bite, and what to do."""
    found = examine(read_connections(os.environ, home))
    if as_json:
        print_json(found)
    else:
        for one in found:
            said = f"{_MARKS[one.verdict]} {one.part:<9} {escaped(one.said)}"
            out.print(said, soft_wrap=True)
            if one.advice:
                out.print(f"            → {escaped(one.advice)}", style="dim", soft_wrap=True)
    if any(one.verdict is Verdict.BAD for one in found):
        raise typer.Exit(1)
