"""What images are compared by: the bands of a perceptual hash, and the keys of their vectors.

Written by the indexer along with the search table, under the same catalog numbers. Prompts and
pictures are known by 64 bits of a digest here: among ten million of them, two that share one
are expected once in some hundred thousand catalogs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.db.bulk import insert_rows
from storage.db.images import ImageRow
from storage.db.rows import batched
from storage.db.tables import embedders, search_keys

BANDS: Final = 4
BAND_BITS: Final = 16
_MASK: Final = (1 << BAND_BITS) - 1
_COLUMNS: Final = tuple(column.name for column in search_keys.c)

Numbered = tuple[int, ImageRow]
"""An image and its catalog number."""


def prompt_key(prompt: str) -> int:
    """64 bits of a digest of a prompt, signed."""
    digest = hashlib.blake2b(prompt.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def picture_key(row: ImageRow) -> int | None:
    """64 bits of the hash of a picture's pixels, signed; of its file where no other is known."""
    digest = row.pixels_sha256 or row.sha256
    if digest is None or row.object_key is None:
        return None
    return int.from_bytes(bytes.fromhex(digest[:16]), "big", signed=True)


def bands_of(phash: int) -> tuple[int, ...]:
    """The four 16-bit parts of a 64-bit hash, the highest first."""
    return tuple((phash >> BAND_BITS * place) & _MASK for place in reversed(range(BANDS)))


def add(connection: Connection, numbered: Sequence[Numbered]) -> None:
    """Write the keys of images that have none."""
    rows = [
        (
            n,
            row.phash,
            *(bands_of(row.phash) if row.phash is not None else (None,) * BANDS),
            prompt_key(row.prompt),
            picture_key(row),
        )
        for n, row in numbered
    ]
    insert_rows(connection, search_keys, _COLUMNS, rows)


def remove(connection: Connection, numbers: Sequence[int]) -> None:
    """Remove keys, before their numbers are given to other images."""
    for some in batched(numbers, 500):
        connection.execute(sa.delete(search_keys).where(search_keys.c.n.in_(some)))
    if numbers:
        _look_again(connection, min(numbers))


def forget_all(connection: Connection) -> None:
    """Remove all keys; vectors stay, since prompts and pictures keep theirs."""
    connection.execute(sa.delete(search_keys))
    _look_again(connection, 0)


def _look_again(connection: Connection, n: int) -> None:
    """Have what comes under these numbers noted for vectors anew."""
    connection.execute(sa.update(embedders).where(embedders.c.next_n > n).values(next_n=n))
