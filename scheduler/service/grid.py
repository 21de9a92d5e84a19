"""Comparison grids: images of a query by two of their fields, one for each pair of values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from scheduler.service.export.selection import matches, start_now
from scheduler.service.finding import Ask
from storage.contract.errors import InputError
from storage.contract.outcomes import Outcome
from storage.contract.search import FIELDS, TAG, Field, Kind, field_of
from storage.db import images
from storage.db.engine import Ledger
from storage.db.images import ImageRow

LOOKED_AT: Final = 50_000
"""Images of a query that are looked at for a grid."""

MOST_COLUMNS: Final = 100

USUAL_WIDTH: Final = 8
"""Columns of a page without fields."""

ABSENT: Final = "—"
"""The label of images without a value."""

_TAGS: Final = msgspec.json.Decoder(dict[str, str])
_RENDERING: Final = msgspec.json.Decoder(dict[str, Any])
_UNFIT: Final = ("worker", "collection", "linked", "hidden")
_NOTHING: Final = (None, "")


class Cell(msgspec.Struct):
    """The place of a pair of values."""

    job: str
    row: ImageRow
    images: int = 1  #: that have these values; the first one that was rendered is shown


_Cells = dict[tuple[Any, Any], Cell]


class Grid(msgspec.Struct, frozen=True, kw_only=True):
    """Images in rows and columns."""

    title: str
    row_field: str | None
    column_field: str | None
    rows: list[str]  #: labels
    columns: list[str]
    cells: dict[tuple[int, int], Cell]
    images: int  #: of the query, shown or not
    more_rows: int = 0  #: rows there was no room for
    more_columns: int = 0
    is_cut: bool = False  #: the query matches more images than were looked at


def check_field(name: str | None, option: str) -> None:
    """`InputError` for what no grid is made of."""
    known = field_of(name) if name is not None else None
    if name is not None and (known is None or known.name in _UNFIT):
        fit = ", ".join(one.name for one in FIELDS if one.name not in _UNFIT)
        raise InputError(
            f"{option} {name}: images have no such field",
            hint=f"one of {fit}, or {TAG}NAME",
        )


def images_of(ledger: Ledger, ask: Ask) -> Iterator[tuple[str, ImageRow]]:
    """All images a query finds, with the names of their jobs, as they came into the catalog."""
    for keys in matches(ledger, ask, start_now(ledger)):
        with ledger.read() as connection:
            rows = images.of_keys(connection, keys)
        yield from (rows[key] for key in keys if key in rows)


def arrange(
    found: Iterable[tuple[str, ImageRow]],
    *,
    title: str,
    rows: str | None,
    columns: str | None,
    limit: int,
    wide: int | None = None,
) -> Grid:
    """The grid of these images; without one of the fields, images follow one another that way.

    Without both, they stand in rows of `wide`.

    Numbers are put in order; texts stay in the order in which they are met.
    """
    wide = wide or USUAL_WIDTH
    check_field(rows, "--rows")
    check_field(columns, "--columns")
    cells: _Cells = {}
    heads: tuple[dict[Any, None], dict[Any, None]] = ({}, {})
    following: dict[Any, int] = {}
    count, is_cut = 0, False
    for job, row in found:
        if count == LOOKED_AT:
            is_cut = True
            break
        count += 1
        across, down = _value(job, row, columns), _value(job, row, rows)
        if rows is None and columns is None:
            down, across = divmod(count - 1, wide)
        elif rows is None or columns is None:
            met = across if rows is None else down
            following[met] = following.get(met, 0) + 1
            across, down = (across, following[met]) if rows is None else (following[met], down)
        heads[0].setdefault(down)
        heads[1].setdefault(across)
        _put(cells, (down, across), job, row)
    if not cells:
        raise InputError("there is nothing to show", hint="see: rendermill images")
    return _cut(title, rows, columns, heads, cells, limit=limit, images=count, is_cut=is_cut)


def label(value: object) -> str:
    """A value as it is written at the edge of a grid."""
    if value is None or value == "":
        return ABSENT
    return f"{value:g}" if isinstance(value, float) else str(value)


def _put(
    cells: dict[tuple[Any, Any], Cell], place: tuple[Any, Any], job: str, row: ImageRow
) -> None:
    there = cells.get(place)
    if there is None:
        cells[place] = Cell(job, row)
        return
    there.images += 1
    if there.row.outcome != Outcome.RENDERED and row.outcome == Outcome.RENDERED:
        there.job, there.row = job, row


def _cut(
    title: str,
    row_field: str | None,
    column_field: str | None,
    heads: tuple[dict[Any, None], dict[Any, None]],
    cells: _Cells,
    *,
    limit: int,
    images: int,
    is_cut: bool,
) -> Grid:
    """As many columns and rows as there is room for."""
    down, across = (_ordered(list(one)) for one in heads)
    columns = across[: max(1, min(MOST_COLUMNS, limit))]
    rows = down[: max(1, limit // len(columns))]
    shown = {
        (i, j): cells[row, column]
        for i, row in enumerate(rows)
        for j, column in enumerate(columns)
        if (row, column) in cells
    }
    return Grid(
        title=title,
        row_field=row_field,
        column_field=column_field,
        rows=[label(one) if row_field else "" for one in rows],
        columns=[label(one) if column_field else "" for one in columns],
        cells=shown,
        images=images,
        more_rows=len(down) - len(rows),
        more_columns=len(across) - len(columns),
        is_cut=is_cut,
    )


def _ordered(values: list[Any]) -> list[Any]:
    """Numbers by size, the absent last; texts that are all numbers, such as tags, too."""
    given = [one for one in values if one not in _NOTHING]
    with suppress(ValueError):
        given = sorted(given, key=float)
    return given + [one for one in values if one in _NOTHING]


def _value(job: str, row: ImageRow, name: str | None) -> Any:
    known = field_of(name) if name is not None else None
    if known is None:
        return None
    source = known.source
    if source == "job.name":
        return job
    if source == "tags":
        return _tag(row, known)
    if source.startswith("rendering."):
        said = _RENDERING.decode(row.rendering) if row.rendering else {}
        return said.get(source.partition(".")[2])
    value = getattr(row, source)
    if known.kind is Kind.TIME and value is not None:
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d")
    return value


def _tag(row: ImageRow, known: Field) -> str | None:
    """A tag's value, whatever the case of its name."""
    name = known.name.removeprefix(TAG)
    found = (value for key, value in _TAGS.decode(row.tags).items() if key.casefold() == name)
    return next(found, None)
