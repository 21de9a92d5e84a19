"""Contact sheets: many pictures on one page, each with what it shows."""

from __future__ import annotations

import io
import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
from PIL import Image, ImageDraw, ImageFont

from storage.contract.errors import InputError, ObjectError
from storage.contract.outcomes import Outcome
from storage.db import images
from storage.db.engine import Ledger
from storage.db.images import ImageRow
from storage.ports import ObjectStore

MAX_PICTURES: Final = 400
MAX_PAGE_PIXELS: Final = 200_000_000
"""A page is held in memory at three bytes a pixel."""

MARGIN: Final = 12
_LINE: Final = 15
_CAPTION_LINES: Final = 3
PAPER: Final = (250, 250, 248)
INK: Final = (40, 40, 44)
FAINT: Final = (140, 140, 146)
_FAILED: Final = (236, 226, 224)
_WIDEST: Final = 2000
_HEAD: Final = 45
_FONT: Final = ImageFont.load_default(12)
_AnyFont = ImageFont.FreeTypeFont | ImageFont.ImageFont


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """How a contact sheet looks."""

    title: str
    of: int  #: images there are in all, shown or not
    columns: int | None = None  #: None: about as wide as high
    cell: int = 160  #: pixels of a picture's longer side


def contact_sheet(rows: Sequence[ImageRow], layout: Layout, store: ObjectStore) -> Image.Image:
    """One page with these images.

    A failed item has its reason in its place, so that a gap is never taken for a mistake of
    the sheet.
    """
    if not rows:
        raise InputError("there is nothing to show", hint="see: rendermill images")
    across = layout.columns or _columns(len(rows), layout.cell)
    wide = layout.cell + MARGIN
    high = wide + _LINE * _CAPTION_LINES
    size = (across * wide + MARGIN, math.ceil(len(rows) / across) * high + MARGIN + _HEAD)
    if size[0] * size[1] > MAX_PAGE_PIXELS:
        raise InputError(
            f"a page of {size[0]:,} x {size[1]:,} pixels is too large",
            hint="show fewer pictures (--limit) or smaller ones (--cell)",
        )
    page = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(page)
    _write_head(draw, layout, len(rows))
    for number, row in enumerate(rows):
        left = MARGIN + number % across * wide
        top = _HEAD + MARGIN + number // across * high
        page.paste(tile(row, layout.cell, store), (left, top))
        for line, text in enumerate(wrapped(row.prompt, layout.cell, _CAPTION_LINES)):
            draw.text((left, top + layout.cell + 3 + line * _LINE), text, INK, _FONT)
    return page


def spread(count: int, most: int = MAX_PICTURES) -> list[int]:
    """Which of `count` items to show if only `most` fit: evenly spread, first and last too."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / max(1, most - 1)) for i in range(most)]


def rows_of_job(ledger: Ledger, job_id: int, items: Sequence[int]) -> Iterator[ImageRow]:
    """The outcomes of these items, as far as they have one."""
    with ledger.read() as connection:
        yield from images.of_items(connection, job_id, items)


def save(page: Image.Image, path: Path) -> None:
    """Write the page; the format follows from the name."""
    try:
        page.save(path)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write {path}: {error}") from error


def _columns(count: int, cell: int) -> int:
    """About as wide as high, captions counted, but not wider than a screen."""
    widest = max(1, _WIDEST // (cell + MARGIN))
    return max(1, min(widest, math.ceil(math.sqrt(count * 1.5))))


def _write_head(draw: ImageDraw.ImageDraw, layout: Layout, shown: int) -> None:
    draw.text((MARGIN, MARGIN), layout.title, INK, ImageFont.load_default(18))
    said = f"{layout.of:,} images"
    if shown < layout.of:
        said = f"{shown:,} of {said}, evenly spread"
    draw.text((MARGIN, MARGIN + 22), said, FAINT, _FONT)


def tile(row: ImageRow, cell: int, store: ObjectStore) -> Image.Image:
    """A square with the picture in its middle, or with the reason why there is none."""
    try:
        picture = _load(row, cell, store)
        missing = f"failed: {row.reason}"
    except (ObjectError, OSError) as error:
        picture, missing = None, str(error)
    square = Image.new("RGB", (cell, cell), _FAILED if picture is None else PAPER)
    if picture is None:
        ImageDraw.Draw(square).text((8, 8), missing[:24], INK, _FONT)
    else:
        square.paste(picture, ((cell - picture.width) // 2, (cell - picture.height) // 2))
    return square


def _load(row: ImageRow, cell: int, store: ObjectStore) -> Image.Image | None:
    """The picture at the cell's size."""
    if row.outcome != Outcome.RENDERED or row.object_key is None:
        return None
    small = row.thumbnail_key and max(row.width, row.height) > cell
    key = row.thumbnail_key if small and row.thumbnail_key else row.object_key
    with Image.open(io.BytesIO(store.get(key))) as opened:
        picture = opened.convert("RGB")
    scale = cell / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    how = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS
    return picture.resize(size, how)


def wrapped(text: str, width: int, most: int, font: _AnyFont = _FONT) -> list[str]:
    """A text over a few lines of so many pixels, the last one cut if there is more."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
        if len(lines) > most:
            break
    if len(lines) > most:
        lines = lines[:most]
        lines[-1] += " …"
    return [clipped(line, width, font) for line in lines]


def clipped(text: str, width: int, font: _AnyFont = _FONT) -> str:
    """As much of the text as fits, with a sign that it goes on."""
    if font.getlength(text) <= width:
        return text

    def length(characters: int) -> float:
        return font.getlength(text[:characters] + "…")

    fitting = bisect_right(range(1, len(text)), float(width), key=length)
    return text[: max(1, fitting)] + "…"
