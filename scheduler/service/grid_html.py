"""A comparison grid as one HTML file that asks nothing of any network.

Pictures are in it as thumbnails, or linked to where they lie. Names stay in sight when the page
is scrolled; arrow keys go from picture to picture, Enter opens one large, Escape closes it.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from contextlib import suppress
from html import escape
from importlib import resources
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
from PIL import Image

from scheduler.service.grid import Cell, Grid
from scheduler.service.grid_page import said_of
from storage.contract.errors import InputError, ObjectError
from storage.contract.keys import image_id
from storage.ports import ObjectStore

LINK_SECONDS: Final = 7 * 24 * 3600
"""How long links to an object store hold: the longest it allows."""

_MOST_PIXELS: Final = 1 << 28


class HtmlOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the page is made."""

    cell: int = 160  #: pixels of a picture's longer side
    link: bool = False  #: to the pictures rather than hold thumbnails


def write_html(grid: Grid, store: ObjectStore, options: HtmlOptions, file: BinaryIO) -> None:
    """The page, written row by row."""
    for piece in _page(grid, store, options):
        file.write(piece.encode(errors="replace"))


def save_html(grid: Grid, store: ObjectStore, options: HtmlOptions, path: Path) -> None:
    """Write the page to a file."""
    try:
        with open(path, "wb") as file:
            write_html(grid, store, options, file)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def _page(grid: Grid, store: ObjectStore, options: HtmlOptions) -> Iterator[str]:
    title = escape(grid.title)
    frame = resources.files(__package__).joinpath("grid.html").read_text(encoding="utf-8")
    head, _, tail = frame.partition("<!--GRID-->\n")
    yield head.replace("CELL", str(options.cell)).replace("TITLE", title)
    yield f"<header><h1>{title}</h1><p>{escape(said_of(grid))}</p></header>\n"
    yield f'<div class="scroll"><table role="grid" aria-label="{title}">\n<thead><tr>'
    if grid.row_field:
        corner = escape(" \\ ".join(one for one in (grid.row_field, grid.column_field) if one))
        yield f'<th class="corner">{corner}</th>'
    for text in grid.columns:
        yield f'<th scope="col">{escape(text)}</th>'
    yield "</tr></thead>\n<tbody>\n"
    for i, text in enumerate(grid.rows):
        yield "<tr>"
        if grid.row_field:
            yield f'<th scope="row"><div>{escape(text)}</div></th>'
        for j in range(len(grid.columns)):
            one = grid.cells.get((i, j))
            yield "<td></td>" if one is None else f"<td>{_cell(one, store, options)}</td>"
        yield "</tr>\n"
    yield tail


def _cell(one: Cell, store: ObjectStore, options: HtmlOptions) -> str:
    row = one.row
    name = image_id(one.job, row.item)
    about = {
        "image": name,
        "prompt": row.prompt,
        "negative_prompt": row.negative_prompt,
        "model": row.model,
        "seed": row.seed,
        "size": f"{row.width} x {row.height}",
        "steps": row.num_inference_steps,
        "guidance_scale": row.guidance_scale,
        "scheduler": row.scheduler,
        "tags": ", ".join(f"{key}: {text}" for key, text in _TAGS.decode(row.tags).items()),
        "images here": one.images if one.images > 1 else "",
    }
    source = _source(one, store, options)
    alt = escape(f"{name}: {row.prompt}"[:300], quote=True)
    if source is None:
        said = f"failed: {row.reason}" if row.reason else "missing"
        inside = f'<span class="none">{escape(said)}</span>'
    else:
        inside = f'<img loading="lazy" src="{escape(source, quote=True)}" alt="{alt}">'
    badge = f'<b title="images with these values">{one.images}</b>' if one.images > 1 else ""
    told = escape(json.dumps(about, ensure_ascii=False), quote=True)
    return f'<button tabindex="-1" data-about="{told}" aria-label="{alt}">{inside}{badge}</button>'


def _source(one: Cell, store: ObjectStore, options: HtmlOptions) -> str | None:
    """Where the browser finds the picture; None if there is none."""
    row = one.row
    if row.object_key is None:
        return None
    if options.link:
        signed = store.presign(row.object_key, LINK_SECONDS)
        return signed or Path(store.locate(row.object_key)).resolve().as_uri()
    with suppress(ObjectError):
        if row.thumbnail_key is not None:
            data = store.get(row.thumbnail_key)
            return _as_data(data, row.thumbnail_key.rpartition(".")[2])
    try:
        return _as_data(_small(store.get(row.object_key), options.cell * 2), "webp")
    except (ObjectError, OSError, ValueError, Image.DecompressionBombError):
        return None


def _small(data: bytes, side: int) -> bytes:
    """The picture as WebP, its longer side at most so long."""
    with Image.open(io.BytesIO(data)) as opened:
        if opened.width * opened.height > _MOST_PIXELS:
            raise ValueError("too large a picture")
        picture = opened.convert("RGB")
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    picture.save(written, "WEBP", quality=85)
    return written.getvalue()


def _as_data(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


_TAGS: Final = msgspec.json.Decoder(dict[str, str])
