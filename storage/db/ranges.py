"""Ranges of items that came back to their group, with the failures they came back with.

A group is a counter over its items; what a task leaves undone does not move the counter back
but waits here. A range that failed is halved on its way back, until the item that fails
stands alone and its neighbours are done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.contract.outcomes import Failure
from storage.db.bulk import insert_rows
from storage.db.tables import returned

_FAILURES = msgspec.json.Decoder(tuple[Failure, ...])

Range = tuple[int, int]

_RANGES_LOOKED_AT = 64
"""Of one group, for one that this worker may take."""


class Returned(msgspec.Struct, frozen=True, kw_only=True):
    """A range that came back: ``[first_item, stop_item)``."""

    first_item: int
    stop_item: int
    failures: tuple[Failure, ...] = ()


def encode_failures(failures: tuple[Failure, ...]) -> str:
    """Failures as the JSON kept in SQL."""
    return msgspec.json.encode(failures).decode()


def decode_failures(text: str) -> tuple[Failure, ...]:
    """The inverse of `encode_failures`."""
    return _FAILURES.decode(text)


def halves(first: int, stop: int, *, batch_size: int, origin: int) -> list[Range]:
    """Cut a range in two, at a batch border if it spans several batches; an item stays whole.

    Batches count from `origin`, the group's first item.
    """
    if stop - first < 2:
        return [(first, stop)]
    middle = first + (stop - first) // 2
    below = origin + (middle - origin) // batch_size * batch_size
    inside = [border for border in (below, below + batch_size) if first < border < stop]
    cut = min(inside, key=lambda border: abs(border - middle), default=middle)
    return [(first, cut), (cut, stop)]


def put_back(
    connection: Connection, group_id: int, ranges: Iterable[Returned], *, not_before: float
) -> None:
    """Let `ranges` be claimed again from `not_before` on; the caller moves the counters."""
    insert_rows(
        connection,
        returned,
        ("group_id", "first_item", "stop_item", "failures", "not_before"),
        [
            (group_id, r.first_item, r.stop_item, encode_failures(r.failures), not_before)
            for r in ranges
        ],
    )


def take_returned(
    connection: Connection,
    group_id: int,
    count: int,
    *,
    batch_size: int,
    origin: int,
    now: float,
    refuses: Callable[[tuple[Failure, ...]], bool] = lambda _: False,
) -> Returned | None:
    """Take up to `count` items of the first range that is due, cut at a batch border.

    Ranges whose failures `refuses` are left to others. The caller holds the group's row, so
    nobody else takes from it meanwhile.
    """
    due = connection.execute(
        sa.select(returned)
        .where(returned.c.group_id == group_id, returned.c.not_before <= now)
        .order_by(returned.c.first_item)
        .limit(_RANGES_LOOKED_AT)
    )
    for row in due.all():
        failures = decode_failures(row.failures)
        if not refuses(failures):
            stop = min(row.stop_item, _border_after(row.first_item, count, batch_size, origin))
            _take_until(connection, row, stop)
            return Returned(first_item=row.first_item, stop_item=stop, failures=failures)
    return None


def _take_until(connection: Connection, row: sa.Row[Any], stop: int) -> None:
    """Leave of a returned range what begins at `stop`."""
    if stop == row.stop_item:
        connection.execute(sa.delete(returned).where(returned.c.id == row.id))
    else:
        connection.execute(
            sa.update(returned).where(returned.c.id == row.id).values(first_item=stop)
        )


def next_range(
    next_item: int, stop_item: int, count: int, *, batch_size: int, origin: int
) -> Returned | None:
    """The next `count` items of a group that were never claimed, or what is left of them."""
    if next_item >= stop_item:
        return None
    border = _border_after(next_item, count, batch_size, origin)
    return Returned(first_item=next_item, stop_item=min(stop_item, border))


def _border_after(first: int, count: int, batch_size: int, origin: int) -> int:
    """The batch border nearest below ``first + count``, but at least one batch on."""
    wanted = origin + (first + count - origin) // batch_size * batch_size
    next_border = origin + ((first - origin) // batch_size + 1) * batch_size
    return max(wanted, next_border)
