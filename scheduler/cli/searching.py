"""``rendermill query``, ``stats`` and ``index``, and what ``images`` prints of a search."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
import typer

from scheduler.cli.console import (
    HomeOption,
    JsonOption,
    duration,
    escaped,
    moment,
    out,
    print_json,
    size,
    table,
)
from scheduler.service import finding, summing
from scheduler.service.finding import Ask
from scheduler.service.home import open_home
from scheduler.settings import DEFAULT_HOME
from storage.contract.keys import image_id
from storage.contract.search import FIELDS
from storage.db import saved, search_notes
from storage.db.images import ImageRow
from storage.db.search_index import forget_all
from storage.opening import Mill

query_app = typer.Typer(help="Keep searches under a name; @NAME stands for one in a query.")

_CSV: Final = (
    *("image", "outcome", "reason", "prompt", "negative_prompt", "seed", "model", "width"),
    *("height", "num_inference_steps", "guidance_scale", "scheduler", "tags", "seconds", "bytes"),
    *("created_at", "file"),
)


def complete_query(incomplete: str) -> list[str]:
    """Names of fields for the word that is being typed."""
    head, _, last = incomplete.rpartition(" ")
    lead = f"{head} " if head else ""
    sign = last[: len(last) - len(last.lstrip("-("))]
    names = [one.name for one in FIELDS] + ["tag."]
    typed = last[len(sign) :]
    return [
        f"{lead}{sign}{name}{'' if name == 'tag.' else ':'}"
        for name in names
        if name.startswith(typed)
    ]


def search_images(mill: Mill, ask: Ask, *, sort: str, limit: int, place: Place) -> finding.Found:
    """One page, after the index of a home has caught up."""
    _catch_up(mill)
    after, before = place
    way = finding.sort_of(sort)
    return finding.find(mill.ledger, ask, sort=way, limit=limit, after=after, before=before)


Place = tuple[str | None, str | None]
"""The cursors after and before."""


def print_count(mill: Mill, ask: Ask, how: str, *, as_json: bool) -> None:
    """How many images match, as ``--count`` asked."""
    _catch_up(mill)
    counted = finding.count(mill.ledger, ask, exact=how == "exact")
    if as_json:
        print_json(counted)
        return
    about = "" if counted.exact else "about "
    out.print(f"{about}{counted.images:,} images")
    if not counted.exact:
        out.print("[dim]Exactly: --count exact[/]")


def print_csv(mill: Mill, found: Sequence[tuple[str, ImageRow]]) -> None:
    """One line an image, with a header."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(_CSV)
    for job, row in found:
        fields: dict[str, Any] = msgspec.structs.asdict(row)
        fields["image"] = image_id(job, row.item)
        fields["file"] = mill.store.locate(row.object_key) if row.object_key else None
        writer.writerow(["" if fields[name] is None else fields[name] for name in _CSV])


def open_pictures(mill: Mill, found: Sequence[tuple[str, ImageRow]], *, most: int = 20) -> None:
    """Show pictures in the system's viewer."""
    keys = [row.object_key for _, row in found if row.object_key]
    for key in keys[:most]:
        typer.launch(mill.store.locate(key))
    out.print(f"Opened {min(len(keys), most)} of {len(keys)} pictures.")


def print_neighbours(found: finding.Found) -> None:
    """The cursors of the pages beside this one, and what is not searchable yet."""
    if found.next:
        out.print(f"[dim]More: add --after {found.next}[/]", soft_wrap=True)
    if found.previous:
        out.print(f"[dim]Back: add --before {found.previous}[/]", soft_wrap=True)
    if found.waiting:
        out.print(f"[dim]Up to {found.waiting:,} new images are not searchable yet.[/]")


def stats_command(
    where: Annotated[
        str, typer.Option(help="Of the images this query finds.", autocompletion=complete_query)
    ] = "",
    by: Annotated[str, typer.Option(help="Fields to group by, with commas between.")] = "model",
    price: Annotated[
        float | None, typer.Option(min=0, help="What an hour of GPU time costs.")
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Sum images up: how many, failures, seconds, GPU seconds, bytes, cost."""
    with open_home(home) as mill:
        _catch_up(mill)
        names = [name.strip() for name in by.split(",") if name.strip()]
        rows = summing.sums(mill.ledger, where, names, price=price)
    if as_json:
        print_json(rows)
        return
    right = ("images", "failed", "time", "GPU time", "size", "cost")
    shown = right if price is not None else right[:-1]
    listing = table(*names, *shown, right=shown)
    for row in rows:
        cells = [escaped("" if one is None else str(one)) for one in row.by.values()]
        cells += [f"{row.images:,}", f"{row.failed:,}" if row.failed else ""]
        cells += [duration(row.seconds), duration(row.gpu_seconds), size(row.bytes)]
        listing.add_row(*cells, *([f"{row.cost:,.2f}"] if row.cost is not None else []))
    out.print(listing if rows else "No images match.")


def index_command(
    again: Annotated[
        bool, typer.Option("--again", help="Forget the index, and index every image anew.")
    ] = False,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Index what was recorded, until nothing waits; the scheduler does so by itself."""
    with open_home(home) as mill:
        if again:
            with mill.ledger.write() as connection:
                forget_all(connection)
        done = 0
        while looked := finding.catch_up(mill.ledger):
            done += looked
            out.print(f"[dim]{done:,} images[/]")
        with mill.ledger.read() as connection:
            waiting = search_notes.waiting(connection)
    out.print(
        "Another process is indexing." if waiting else "Every image can be searched.",
    )


@query_app.command("save")
def save_query(
    name: Annotated[str, typer.Argument(help="Letters, digits, - and _.")],
    query: Annotated[str, typer.Argument(help="The query.", autocompletion=complete_query)],
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Keep a query; one of the same name is replaced."""
    with open_home(home) as mill:
        finding.save(mill.ledger, name, query)
    out.print(f"Saved; use it as @{escaped(name)}.")


@query_app.command("list")
def list_queries(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List the queries that are kept."""
    with open_home(home) as mill, mill.ledger.read() as connection:
        found = saved.every(connection)
    if as_json:
        print_json(found)
        return
    listing = table("name", "query", "saved", wide="query")
    for one in found:
        listing.add_row(escaped(one.name), escaped(one.query), moment(one.created_at))
    out.print(listing if found else "No queries are saved.")


@query_app.command("delete")
def delete_query(name: str, home: HomeOption = DEFAULT_HOME) -> None:
    """Keep a query no longer."""
    with open_home(home) as mill, mill.ledger.write() as connection:
        saved.delete(connection, name)
    out.print(f"Deleted {escaped(name)}.")


def _catch_up(mill: Mill) -> None:
    if not mill.connections.is_farm:
        finding.catch_up(mill.ledger)
