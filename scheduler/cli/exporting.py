"""``rendermill export`` and ``rendermill fetch``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bar,
)
from rich.progress import Task as BarTask
from rich.text import Text

from scheduler.cli.console import HomeOption, JsonOption, err, escaped, out, print_json, size
from scheduler.cli.searching import complete_query
from scheduler.service.export.fetch import FetchOptions, fetch
from scheduler.service.export.names import DEFAULT_TEMPLATE
from scheduler.service.export.options import (
    ExportOptions,
    Form,
    ShardSize,
    shard_size,
    splits,
    usual_splits,
)
from scheduler.service.export.run import CHECKSUMS, Progress, export
from scheduler.service.export.samples import READERS
from scheduler.service.export.target import open_target
from scheduler.service.finding import catch_up
from scheduler.service.home import open_home
from scheduler.settings import DEFAULT_HOME
from storage.db import jobs
from storage.opening import Mill

EXIT_LOST: Final = 3
"""All that could be taken out was; some pictures are missing or damaged."""

QueryArgument = Annotated[
    str,
    typer.Argument(
        help="Such as 'fox width:>=1024'; '*' is everything.", autocompletion=complete_query
    ),
]


def export_command(
    query: QueryArgument,
    to: Annotated[
        str, typer.Argument(metavar="TO", help="A folder, or s3://bucket/prefix?endpoint=URL.")
    ],
    form: Annotated[Form, typer.Option("--format", "-f", help="In which form.")] = Form.FILES,
    job: Annotated[str | None, typer.Option(help="Of this job only.")] = None,
    shard: Annotated[
        str | None, typer.Option("--shard-size", help="Images or bytes of a shard: 1000, 512MB.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Such as train=0.9,test=0.1: by a hash of the picture.")
    ] = None,
    name_template: Annotated[
        str, typer.Option(help="Names of files: {job}/{prompt:.40}-{seed}.png")
    ] = DEFAULT_TEMPLATE,
    link: Annotated[
        bool, typer.Option("--link/--embed", help="Parquet that names pictures, or holds them.")
    ] = False,
    caption: Annotated[
        str, typer.Option(help="The text beside a picture: prompt, negative_prompt, tag.NAME.")
    ] = "prompt",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Take pictures out for other programs; run again, it goes on where it was ended.

    Ends with 3 if pictures were missing or damaged in the store.
    """
    with open_home(home) as mill:
        options = ExportOptions(
            query=query,
            format=form,
            job=_job_name(mill, job),
            shard=shard_size(shard) if shard else ShardSize(),
            splits=splits(split) if split else usual_splits(form),
            name_template=name_template,
            link=link,
            caption=caption,
        )
        options.check()
        target = open_target(to)
        _index(mill)
        with _bar(quiet=as_json) as told:
            done = export(mill, target, options, progress=told)
    if as_json:
        print_json(done)
    else:
        shards = f"{len(done.shards):,} shard{'' if len(done.shards) == 1 else 's'}"
        said = f"{done.images:,} images, {size(done.bytes)}, {shards}"
        out.print(f"{escaped(to)}: {said}; checksums in {CHECKSUMS}", soft_wrap=True)
        _say_lost([f"{one.id}: {one.why}" for one in done.lost])
    raise typer.Exit(EXIT_LOST if done.lost else 0)


def fetch_command(
    query: QueryArgument,
    folder: Annotated[Path, typer.Argument(help="Where copies go: FOLDER/JOB/ITEM.png.")],
    job: Annotated[str | None, typer.Option(help="Of this job only.")] = None,
    thumbnails: Annotated[
        bool, typer.Option("--thumbnails", help="Thumbnails in the place of pictures.")
    ] = False,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Copies at once.")] = READERS,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Copy pictures, with their checksums verified; what is there already is left alone.

    Ends with 3 if pictures were missing or damaged in the store.
    """
    with open_home(home) as mill:
        _index(mill)
        options = FetchOptions(
            query=query, job=_job_name(mill, job), thumbnails=thumbnails, parallel=parallel
        )
        with _bar(quiet=as_json) as told:
            done = fetch(mill, folder, options, progress=told)
    if as_json:
        print_json(done)
    else:
        said = f"{done.copied:,} copied ({size(done.bytes)}), {done.there:,} were there"
        out.print(f"{escaped(str(folder))}: {said}", soft_wrap=True)
        _say_lost([f"{one.id}: {one.why}" for one in done.lost])
    raise typer.Exit(EXIT_LOST if done.lost else 0)


def _index(mill: Mill) -> None:
    """Nothing that was recorded may be left out; on a farm the scheduler is soon behind."""
    while not mill.connections.is_farm and catch_up(mill.ledger):
        pass


def _job_name(mill: Mill, job: str | None) -> str | None:
    if job is None:
        return None
    with mill.ledger.read() as connection:
        return jobs.find(connection, job).name


def _say_lost(lost: list[str], most: int = 10) -> None:
    for one in lost[:most]:
        err.print(f"[red]left out:[/] {escaped(one)}", soft_wrap=True)
    if len(lost) > most:
        err.print(f"[red]left out:[/] {len(lost) - most:,} more")


class _Rate(TextColumn):
    """Images a second."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: BarTask) -> Text:
        """The rate of late, or over all."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} images/s", style="dim")


@contextmanager
def _bar(*, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A bar with rate and time left, where there is a terminal to draw it on."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    shown = err.is_terminal and not quiet
    with Bar(*columns, console=err, transient=True, disable=not shown) as bar:
        task = bar.add_task("choosing", total=None)
        phase = "choosing"

        def tell(now: Progress) -> None:
            nonlocal phase
            if now.phase != phase:  # what was done before does not count for the rate
                phase = now.phase
                bar.reset(task, description=phase, total=now.of, completed=now.images)
            bar.update(task, completed=now.images, total=now.of)

        yield tell
