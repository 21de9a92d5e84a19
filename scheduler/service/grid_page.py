"""A comparison grid as a picture."""

from __future__ import annotations

from typing import Final

from PIL import Image, ImageDraw, ImageFont

from scheduler.service.contact import (
    FAINT,
    INK,
    MARGIN,
    MAX_PAGE_PIXELS,
    PAPER,
    tile,
    wrapped,
)
from scheduler.service.grid import Grid
from storage.contract.errors import InputError
from storage.ports import ObjectStore

_LINE: Final = 16
_HEAD: Final = 56
_RULE: Final = (226, 226, 222)
_BADGE: Final = (30, 30, 34)
_LABEL: Final = ImageFont.load_default(13)
_SMALL: Final = ImageFont.load_default(12)
_TITLE: Final = ImageFont.load_default(20)
_HEAD_LINES: Final = 4
_LABEL_WIDTH: Final = 170
_GAP: Final = 6


def grid_page(grid: Grid, store: ObjectStore, *, cell: int) -> Image.Image:
    """One page with the grid: columns named above, rows named at the left."""
    left = MARGIN + (_label_width(grid, cell) + MARGIN if grid.row_field else 0)
    heads = [wrapped(text, cell, _HEAD_LINES, _LABEL) for text in grid.columns]
    above = max(map(len, heads)) * _LINE + _GAP if grid.column_field else 0
    top = _HEAD + above
    step = cell + _GAP
    width = left + len(grid.columns) * step - _GAP + MARGIN
    size = (max(width, 420), top + len(grid.rows) * step - _GAP + MARGIN)
    if size[0] * size[1] > MAX_PAGE_PIXELS:
        raise InputError(
            f"a page of {size[0]:,} x {size[1]:,} pixels is too large",
            hint="show fewer pictures (--limit) or smaller ones (--cell), or write .html",
        )
    page = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((MARGIN, MARGIN - 2), wrapped(grid.title, size[0] - 2 * MARGIN, 1, _TITLE)[0],
              INK, _TITLE)  # fmt: skip
    draw.text((MARGIN, MARGIN + 22), said_of(grid), FAINT, _SMALL)
    for column, lines in enumerate(heads):
        bottom = top - _GAP - len(lines) * _LINE
        for number, line in enumerate(lines):
            middle = left + column * step + cell // 2
            draw.text((middle, bottom + number * _LINE), line, INK, _LABEL, anchor="ma")
    for number, text in enumerate(grid.rows):
        _write_row(draw, text, (top + number * step, cell), left)
    for (i, j), one in grid.cells.items():
        place = (left + j * step, top + i * step)
        page.paste(tile(one.row, cell, store), place)
        if one.images > 1:
            _badge(draw, f"{one.images}", place)
    return page


def said_of(grid: Grid) -> str:
    """What is shown, and what is not."""
    said = [f"{grid.images:,}{'+' if grid.is_cut else ''} images"]
    if grid.row_field:
        said.append(f"rows: {grid.row_field}")
    if grid.column_field:
        said.append(f"columns: {grid.column_field}")
    if grid.more_rows:
        said.append(f"{grid.more_rows:,} more rows not shown")
    if grid.more_columns:
        said.append(f"{grid.more_columns:,} more columns not shown")
    return " · ".join(said)


def _label_width(grid: Grid, cell: int) -> int:
    """Room for the names of rows: as much as they need, within reason."""
    longest = max(_LABEL.getlength(text[:200].replace("\n", " ")) for text in grid.rows)
    return round(min(longest + 1, max(_LABEL_WIDTH, cell)))


def _write_row(draw: ImageDraw.ImageDraw, text: str, place: tuple[int, int], left: int) -> None:
    top, cell = place
    if not text:
        return
    lines = wrapped(text, left - 2 * MARGIN, max(1, cell // _LINE), _LABEL)
    first = top + (cell - len(lines) * _LINE) // 2
    for number, line in enumerate(lines):
        draw.text((left - MARGIN, first + number * _LINE), line, INK, _LABEL, anchor="ra")
    draw.line((MARGIN, top - _GAP // 2, left - MARGIN // 2, top - _GAP // 2), _RULE)


def _badge(draw: ImageDraw.ImageDraw, text: str, place: tuple[int, int]) -> None:
    """How many images share the place."""
    width = round(_SMALL.getlength(text)) + 10
    box = (place[0] + 4, place[1] + 4, place[0] + 4 + width, place[1] + 20)
    draw.rounded_rectangle(box, 8, fill=_BADGE)
    draw.text((box[0] + 5, box[1] + 2), text, PAPER, _SMALL)
