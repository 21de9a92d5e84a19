"""Pictures that look alike: by the distance of their perceptual hashes, with an index.

Of two hashes that differ in up to seven of 64 bits, one of their four bands differs in one bit
at most. So whatever is that near has, in one of four columns, one of 17 values: an index finds
those rows, which are a few thousand of ten million, and the distance decides among them.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import BIT
from sqlalchemy.engine import Connection

from storage.contract.search import Tree
from storage.db.search_keys import BAND_BITS, BANDS, bands_of
from storage.db.search_plan import Planner
from storage.db.search_sql import spelling_of
from storage.db.tables import search, search_keys

MOST_BITS: Final = 2 * BANDS - 1
"""Bits that may differ: of one more, each band may hold two."""

MOST_NEAR: Final = 50_000
"""Near pictures that are looked through; of more (blank ones, say), any so many."""

_MASK: Final = 2**64 - 1


class Near(msgspec.Struct, frozen=True):
    """An image, and how far it is from what was asked for."""

    job_id: int
    item: int
    distance: float


def near(
    connection: Connection, phash: int, tree: Tree, *, within: int = MOST_BITS, limit: int
) -> list[Near]:
    """Up to `limit` images that match, the nearest first, and of equal ones the newest first.

    All whose hash differs in at most `within` bits are found, which may be up to `MOST_BITS`.
    """
    if not 0 <= within <= MOST_BITS:
        raise ValueError(f"within {within} bits: must be 0 to {MOST_BITS}")
    plan = Planner(connection).whole(tree)
    spelling = spelling_of(connection)
    distance = _distance(connection, phash)
    candidates = (
        sa.select(search_keys.c.n, distance.label("distance"))
        .where(_touches(phash, within), distance <= within)
        .limit(MOST_NEAR)
        .cte("near")
        .prefix_with("MATERIALIZED")
    )
    found = (
        sa.select(search.c.job_id, search.c.item, candidates.c.distance)
        .select_from(candidates.join(search, search.c.n == candidates.c.n))
        .where(spelling.condition(plan))
        .order_by(candidates.c.distance, candidates.c.n.desc())
        .limit(limit)
    )
    return [Near(*row) for row in connection.execute(found)]


def _touches(phash: int, within: int) -> sa.ColumnElement[bool]:
    """That one band is the hash's own, or one bit from it where that may be needed."""
    bits = [0] + ([1 << bit for bit in range(BAND_BITS)] if within >= BANDS else [])
    return sa.or_(
        *(
            search_keys.c[f"band_{number}"].in_([band ^ bit for bit in bits])
            for number, band in enumerate(bands_of(phash))
        )
    )


def _distance(connection: Connection, phash: int) -> sa.ColumnElement[int]:
    """How many bits a row's hash differs in."""
    if connection.dialect.name == "postgresql":
        other = sa.cast(sa.literal(phash), sa.BigInteger)
        differing = search_keys.c.phash.op("#")(other)
        return sa.func.bit_count(sa.cast(differing, BIT(64)), type_=sa.BigInteger)
    driver: Any = connection.connection.driver_connection
    driver.create_function("bits_apart", 2, _bits_apart, deterministic=True)
    return sa.func.bits_apart(search_keys.c.phash, phash, type_=sa.Integer)


def _bits_apart(one: int | None, other: int) -> int | None:
    return None if one is None else ((one ^ other) & _MASK).bit_count()
