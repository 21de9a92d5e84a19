"""What is near a picture: the query filters, the distance sorts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from PIL import Image

from scheduler.catalog.likeness import perceptual_hash
from scheduler.service.finding import Ask, tree_of
from storage import pictures
from storage.contract.errors import InputError
from storage.contract.keys import parse_image_id
from storage.db import images, search_notes
from storage.db.engine import Ledger
from storage.db.images import ImageRow
from storage.db.search_near import MOST_BITS, Near, near
from storage.db.search_sql import bounded


class Nearest(msgspec.Struct, frozen=True, kw_only=True):
    """The nearest images with the names of their jobs, and how far each is."""

    images: list[tuple[str, ImageRow]]
    distances: list[float]
    waiting: int = 0  #: images that are not searchable yet, at most


class Sight(msgspec.Struct, frozen=True):
    """A picture to compare with."""

    phash: int
    row: ImageRow | None = None  #: None: a file, which may be in no catalog


def sight_of(ledger: Ledger, text: str) -> Sight:
    """A picture of the catalog by its JOB/ITEM, or of a file."""
    path = Path(text)
    if path.is_file():
        return Sight(perceptual_hash(read_picture(path)))
    try:
        job, item = parse_image_id(text)
    except ValueError:
        raise InputError(
            f"--near {text}: there is no such file", hint="give a picture's file, or JOB/ITEM"
        ) from None
    with ledger.read() as connection:
        row = images.get(connection, job, item)
    if row.phash is None:
        raise InputError(
            f"--near {text}: no perceptual hash is recorded of it",
            hint="name its file instead, if it has one",
        )
    return Sight(row.phash, row)


def read_picture(path: Path) -> Image.Image:
    """The picture of a file; `InputError` if it is none."""
    try:
        return pictures.as_image(path.read_bytes())
    except pictures.PictureError as error:
        raise InputError(f"{path} {error}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


def look_alikes(
    ledger: Ledger, ask: Ask, sight: Sight, *, within: int = MOST_BITS, limit: int
) -> Nearest:
    """Images that match and look alike, the nearest first; not the picture itself."""
    with ledger.read() as connection, bounded(connection):
        tree = tree_of(connection, ask, now=ledger.now())
        found = near(connection, sight.phash, tree, within=within, limit=limit + 1)
    if sight.row is not None:
        own = (sight.row.job_id, sight.row.item)
        found = [one for one in found if (one.job_id, one.item) != own]
    return shown(ledger, found[:limit])


def shown(ledger: Ledger, found: Sequence[Near]) -> Nearest:
    """The images themselves, in the order found."""
    with ledger.read() as connection:
        rows = images.of_keys(connection, [(one.job_id, one.item) for one in found])
        waiting = search_notes.lag(connection).items
    there = [one for one in found if (one.job_id, one.item) in rows]
    return Nearest(
        images=[rows[one.job_id, one.item] for one in there],
        distances=[one.distance for one in there],
        waiting=waiting,
    )
