"""Sums over the images a query finds, with what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from scheduler.service.finding import Ask, tree_of
from storage.contract.errors import InputError
from storage.contract.search import FIELDS, Field, Kind, field_of
from storage.db import search_stats
from storage.db.engine import Ledger
from storage.db.search_sql import bounded

SECONDS: Final = 300.0
_NARROWER: Final = "sums read every image they are of: narrow them down with --where"
_NAMES: Final = ", ".join(
    one.name for one in FIELDS if one.kind in {Kind.VALUE, Kind.NUMBER} and one.name != "weights"
)


class Summed(msgspec.Struct, frozen=True, kw_only=True):
    """Of images with the same values of the fields asked for."""

    by: dict[str, str | int | float | None]
    images: int
    failed: int
    seconds: float  #: of rendering
    gpu_seconds: float  #: of those, on GPUs
    bytes: int
    cost: float | None = None  #: in the currency of the price


def sums(
    ledger: Ledger, where: str, by: Sequence[str], *, price: float | None = None
) -> list[Summed]:
    """Sums by these fields, most images first; `price` is that of an hour on a GPU."""
    fields = [_field(name) for name in by]
    with ledger.read() as connection, bounded(connection, SECONDS, hint=_NARROWER):
        tree = tree_of(connection, Ask(query=where), now=ledger.now())
        found = search_stats.sums(connection, tree, fields)
    return [
        Summed(
            by={one.name: value for one, value in zip(fields, sum_.values, strict=True)},
            images=sum_.images,
            failed=sum_.failed,
            seconds=sum_.seconds,
            gpu_seconds=sum_.gpu_seconds,
            bytes=sum_.bytes,
            cost=None if price is None else sum_.gpu_seconds / 3600 * price,
        )
        for sum_ in found
    ]


def _field(name: str) -> Field:
    known = field_of(name)
    if known is None or known.kind in {Kind.WORDS, Kind.TIME}:
        raise InputError(
            f"--by {name}: images are not grouped by that",
            hint=f"group by tag.NAME, or by {_NAMES}",
        )
    return known
