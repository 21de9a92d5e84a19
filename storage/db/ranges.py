"""Ranges of items that came back to their group, with the failures they came back with.

A group is a counter over its items; what a task leaves undone does not move the counter back
but waits here. A range that failed is halved on its way back, until the item that fails
stands alone and its neighbours are done.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.contract.outcomes import Failure
from storage.db.bulk import insert_rows
from storage.db.tables import groups, returned

_FAILURES = msgspec.json.Decoder(tuple[Failure, ...])

Range = tuple[int, int]


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
    connection: Connection, group_id: int, count: int, *, batch_size: int, now: float
) -> Returned | None:
    """Take up to `count` items of the first range that is due, cut at a batch border."""
    row = connection.execute(
        sa.select(returned)
        .where(returned.c.group_id == group_id, returned.c.not_before <= now)
        .order_by(returned.c.first_item)
        .limit(1)
    ).first()
    if row is None:
        return None
    origin = connection.execute(
        sa.select(groups.c.first_item).where(groups.c.id == group_id)
    ).scalar_one()
    stop = min(row.stop_item, _border_after(row.first_item, count, batch_size, origin))
    if stop == row.stop_item:
        connection.execute(sa.delete(returned).where(returned.c.id == row.id))
    else:
        connection.execute(
            sa.update(returned).where(returned.c.id == row.id).values(first_item=stop)
        )
    return Returned(
        first_item=row.first_item, stop_item=stop, failures=decode_failures(row.failures)
    )


def take_next(connection: Connection, group_id: int, count: int) -> Returned | None:
    """Take the next `count` items that were never claimed, moving the group's counter."""
    row = connection.execute(
        sa.select(groups.c.next_item, groups.c.stop_item, groups.c.first_item, groups.c.batch_size)
        .where(groups.c.id == group_id, groups.c.next_item < groups.c.stop_item)
        .with_for_update()
    ).first()
    if row is None:
        return None
    border = _border_after(row.next_item, count, row.batch_size, row.first_item)
    stop = min(row.stop_item, border)
    connection.execute(sa.update(groups).where(groups.c.id == group_id).values(next_item=stop))
    return Returned(first_item=row.next_item, stop_item=stop)


def _border_after(first: int, count: int, batch_size: int, origin: int) -> int:
    """The batch border nearest below ``first + count``, but at least one batch on."""
    wanted = origin + (first + count - origin) // batch_size * batch_size
    next_border = origin + ((first - origin) // batch_size + 1) * batch_size
    return max(wanted, next_border)
