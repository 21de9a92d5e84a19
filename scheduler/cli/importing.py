"""``rendermill import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.status import Status

from scheduler.cli.console import HomeOption, JsonOption, err, escaped, out, print_json
from scheduler.service.home import open_home
from scheduler.service.importing.run import Broken, Counts, Wanted, import_folder
from scheduler.settings import DEFAULT_HOME
from storage.contract.errors import SettingError


def import_command(
    folder: Annotated[Path, typer.Argument(help="The pictures' folder, and all below it.")],
    job_name: Annotated[
        str | None, typer.Option(help="Job to put them into; default: the folder's name.")
    ] = None,
    link: Annotated[
        bool, typer.Option("--link/--copy", help="Share the files by hard links, or copy them.")
    ] = False,
    skip_silent: Annotated[
        bool, typer.Option("--skip-silent", help="Leave out what says nothing of how it was made.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Files read at once.")] = 4,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Take existing pictures into the catalog, by what their files say of themselves."""
    _need_numpy()
    wanted = Wanted(
        folder=folder, job=job_name, link=link, skip_silent=skip_silent, threads=threads
    )
    with open_home(home, create=True) as mill, Status("Reading ...", console=err) as status:

        def told(counts: Counts) -> None:
            status.update(f"{counts.imported:,} imported, {counts.known:,} known already")

        def broken(one: Broken) -> None:
            err.print(f"{escaped(one.file)}: {escaped(one.why)}", style="yellow", soft_wrap=True)

        name, counts = import_folder(mill, wanted, told=told, broken=broken)
    if as_json:
        print_json({"job": name, "counts": counts})
        return
    out.print(f"{name}: {counts.imported:,} imported{_more(counts, wanted)}", soft_wrap=True)
    for program, count in sorted(counts.by_program.items()):
        out.print(f"  {escaped(program)}: {count:,}")


def _more(counts: Counts, wanted: Wanted) -> str:
    silent = "skipped, which say" if wanted.skip_silent else "of them say"
    said = {
        "known already": counts.known,
        f"{silent} nothing of how they were made": counts.silent,
        "could not be read": counts.broken,
    }
    return "".join(f", {count:,} {what}" for what, count in said.items() if count)


def _need_numpy() -> None:
    try:
        import numpy  # noqa: F401 - so that it is missed before anything is written
    except ImportError as error:
        raise SettingError(
            "importing needs the package numpy",
            hint="install it: pip install 'rendermill[import]'",
        ) from error
