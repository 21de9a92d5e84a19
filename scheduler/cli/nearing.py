"""What ``images --near`` and ``--semantic`` print: images by how near they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from scheduler.cli.console import escaped, one_line, out, print_json, short_model, table
from scheduler.cli.searching import open_pictures, print_csv
from scheduler.service import finding, meaning, nearest
from scheduler.service.finding import Ask
from scheduler.service.nearest import Nearest
from storage.contract.errors import InputError
from storage.contract.keys import image_id
from storage.db.images import ImageRow
from storage.db.search_near import MOST_BITS
from storage.opening import Mill

NearOption = Annotated[
    str | None, typer.Option(metavar="IMAGE", help="That look like this JOB/ITEM or file.")
]
WithinOption = Annotated[
    int | None,
    typer.Option(min=0, max=MOST_BITS, help="With --near: bits of 64 that may differ."),
]
SemanticOption = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Whose prompts mean this; see vectors.")
]
Fields = Callable[[Mill, str, ImageRow], dict[str, Any]]


def refuse_beside(near: str | None, semantic: str | None, **others: object) -> None:
    """Refuse options that mean an order or a page of their own."""
    if near is not None and semantic is not None:
        raise InputError("--near and --semantic both sort", hint="give one of them")
    chosen = "--near" if near is not None else "--semantic"
    given = [name for name, value in others.items() if value not in {None, False}]
    if given:
        raise InputError(
            f"--{given[0]} does not go with {chosen}, which sorts by distance",
            hint="for more of them, raise --limit",
        )


def find_nearest(
    mill: Mill, ask: Ask, near: str | None, semantic: str | None, *, within: int | None, limit: int
) -> Nearest:
    """The images nearest to what is asked for.

    Pictures are compared by their vectors where there are any, unless bits are asked for.
    """
    if not mill.connections.is_farm:
        finding.catch_up(mill.ledger)
    if near is None:
        return meaning.by_meaning(mill.ledger, ask, semantic or "", limit=limit)
    sight = nearest.sight_of(mill.ledger, near)
    if within is None:
        found = meaning.by_picture(mill.ledger, ask, sight, near, limit=limit)
        if found is not None:
            return found
    bits = MOST_BITS if within is None else within
    return nearest.look_alikes(mill.ledger, ask, sight, within=bits, limit=limit)


def print_nearest(
    mill: Mill,
    found: Nearest,
    fields: Fields,
    *,
    paths: bool,
    as_json: bool,
    as_csv: bool,
    show_them: bool,
) -> None:
    """Print them in the form that was asked for."""
    both = list(zip(found.images, found.distances, strict=True))
    if as_json:
        shown = [fields(mill, *one) | {"distance": distance} for one, distance in both]
        print_json({"images": shown, "waiting": found.waiting})
    elif as_csv:
        print_csv(mill, found.images)
    elif show_them:
        open_pictures(mill, found.images)
    elif paths:
        for _, row in found.images:
            if row.object_key:
                out.print(mill.store.locate(row.object_key), soft_wrap=True, markup=False)
    else:
        _print_table(both)
        if found.waiting:
            out.print(f"[dim]Up to {found.waiting:,} new images are not searchable yet.[/]")


def _print_table(found: list[tuple[tuple[str, ImageRow], float]]) -> None:
    listing = table(
        "image", "distance", "seed", "size", "model", "prompt", right=("distance",), wide="prompt"
    )
    for (job, row), distance in found:
        listing.add_row(
            image_id(job, row.item),
            f"{distance:.3g}",
            str(row.seed),
            f"{row.width}x{row.height}",
            short_model(row.model),
            escaped(one_line(row.prompt)),
        )
    out.print(listing if found else "Nothing is that near.")
