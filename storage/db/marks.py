"""What people say of images: tags, ratings, collections, and that they are not to be shown.

Each function takes some hundreds or thousands of images at once, as (job id, item), and changes
them in the caller's transaction with a few statements. Doing the same again changes nothing, so
a command that was killed half way is given again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.db import search_notes
from storage.db.bulk import insert_rows
from storage.db.rows import batched, upsert
from storage.db.tables import collected, image_tags, images

Keys = Sequence[tuple[int, int]]
"""Images by job id and item."""

_ITEMS_PER_QUERY: Final = 1_000
_TAGS: Final = msgspec.json.Decoder(dict[str, str])
_NAMES: Final = msgspec.json.Decoder(list[str])


class Collection(msgspec.Struct, frozen=True):
    """A collection, and how many images are in it."""

    name: str
    images: int


def tag(connection: Connection, keys: Keys, name: str, value: str, *, now: float) -> int:
    """Give images a tag, or another value to it; how many changed."""
    return _retag(connection, keys, lambda tags: tags | {name: value}, now)


def untag(connection: Connection, keys: Keys, name: str, value: str | None, *, now: float) -> int:
    """Take a tag away, whatever its value or only that one; how many images changed."""

    def without(tags: dict[str, str]) -> dict[str, str]:
        gone = name in tags and value in (None, tags[name])
        return {key: one for key, one in tags.items() if not gone or key != name}

    return _retag(connection, keys, without, now)


def rate(connection: Connection, keys: Keys, rating: int | None, *, now: float) -> int:
    """Rate images from 1 to 5, or take their rating away; how many changed."""
    other = images.c.rating.is_distinct_from(rating)
    return _set(connection, keys, other, {"rating": rating, "marked_at": now})


def hide(connection: Connection, keys: Keys, *, now: float) -> int:
    """Show images no more; how many are hidden by this."""
    shown = images.c.hidden_at.is_(None)
    return _set(connection, keys, shown, {"hidden_at": now, "marked_at": now})


def unhide(connection: Connection, keys: Keys, *, now: float) -> int:
    """Show hidden images again, save those that are being purged; how many."""
    kept = images.c.hidden_at > 0
    return _set(connection, keys, kept, {"hidden_at": None, "marked_at": now})


def collect(connection: Connection, keys: Keys, name: str, *, now: float) -> int:
    """Put images into a collection; how many were not in it."""
    changed = _rename(connection, keys, lambda names: sorted({*names, name}), now)
    if changed:
        statement = upsert(connection, collected).on_conflict_do_nothing()
        rows = [{"name": name, "job_id": job_id, "item": item} for job_id, item in changed]
        connection.execute(statement, rows)
    return len(changed)


def uncollect(connection: Connection, keys: Keys, name: str, *, now: float) -> int:
    """Take images out of a collection; how many were in it."""
    changed = _rename(
        connection, keys, lambda names: [other for other in names if other != name], now
    )
    for job_id, items in _by_job(keys):
        connection.execute(
            sa.delete(collected).where(
                collected.c.name == name, collected.c.job_id == job_id, collected.c.item.in_(items)
            )
        )
    return len(changed)


def collections(connection: Connection) -> list[Collection]:
    """All collections, by name."""
    found = connection.execute(
        sa.select(collected.c.name, sa.func.count())
        .group_by(collected.c.name)
        .order_by(collected.c.name)
    )
    return [Collection(*row) for row in found]


def collection_keys(connection: Connection, name: str, *, limit: int) -> list[tuple[int, int]]:
    """Some images of a collection, in order."""
    found = connection.execute(
        sa.select(collected.c.job_id, collected.c.item)
        .where(collected.c.name == name)
        .order_by(collected.c.job_id, collected.c.item)
        .limit(limit)
    )
    return [(row[0], row[1]) for row in found]


def _set(
    connection: Connection, keys: Keys, only_if: sa.ColumnElement[bool], values: dict[str, Any]
) -> int:
    count = 0
    for job_id, items in _by_job(keys):
        changed = connection.execute(
            sa.update(images)
            .where(images.c.job_id == job_id, images.c.item.in_(items), only_if)
            .values(**values)
        ).rowcount
        if changed:
            search_notes.note(connection, job_id, min(items), max(items) + 1)
        count += changed
    return count


def _retag(
    connection: Connection,
    keys: Keys,
    change: Callable[[dict[str, str]], dict[str, str]],
    now: float,
) -> int:
    gone: list[tuple[Any, ...]] = []
    new: list[tuple[Any, ...]] = []

    def changed_tags(job_id: int, item: int, text: str | None) -> str:
        before = _TAGS.decode(text or "{}")
        after = change(before)
        place = (job_id, item)
        gone.extend((*pair, *place) for pair in before.items() - after.items())
        new.extend((*pair, *place) for pair in after.items() - before.items())
        return msgspec.json.encode(after).decode()

    changed = _rewrite(connection, keys, "tags", changed_tags, now)
    columns = ("key", "value", "job_id", "item")
    if gone:
        same = [image_tags.c[name] == sa.bindparam(f"{name}_") for name in columns]
        given = [{f"{n}_": v for n, v in zip(columns, row, strict=True)} for row in gone]
        connection.execute(sa.delete(image_tags).where(*same), given)
    insert_rows(connection, image_tags, columns, new)
    return len(changed)


def _rename(
    connection: Connection, keys: Keys, change: Callable[[list[str]], list[str]], now: float
) -> list[tuple[int, int]]:
    def changed_names(_job_id: int, _item: int, text: str | None) -> str | None:
        names = change(_NAMES.decode(text) if text else [])
        return msgspec.json.encode(names).decode() if names else None

    return _rewrite(connection, keys, "collections", changed_names, now)


def _rewrite(
    connection: Connection,
    keys: Keys,
    column: str,
    change: Callable[[int, int, str | None], str | None],
    now: float,
) -> list[tuple[int, int]]:
    """Give a column of each image the text made of its old one; which images changed."""
    written: list[dict[str, Any]] = []
    for job_id, items in _by_job(keys):
        found = connection.execute(
            sa.select(images.c.item, images.c[column])
            .where(images.c.job_id == job_id, images.c.item.in_(items))
            .order_by(images.c.item)
            .with_for_update()
        ).all()
        changed = [
            {"job": job_id, "number": row[0], "text": text}
            for row in found
            if (text := change(job_id, row[0], row[1])) != row[1]
        ]
        if changed:
            search_notes.note(connection, job_id, changed[0]["number"], changed[-1]["number"] + 1)
        written += changed
    if written:
        connection.execute(
            sa.update(images)
            .where(images.c.job_id == sa.bindparam("job"), images.c.item == sa.bindparam("number"))
            .values({column: sa.bindparam("text"), "marked_at": now}),
            written,
        )
    return [(one["job"], one["number"]) for one in written]


def _by_job(keys: Keys) -> Iterator[tuple[int, list[int]]]:
    """The items of each job, in order, as many at once as a query takes."""
    by_job: dict[int, list[int]] = {}
    for job_id, item in sorted(keys):
        by_job.setdefault(job_id, []).append(item)
    for job_id, items in by_job.items():
        for some in batched(items, _ITEMS_PER_QUERY):
            yield job_id, list(some)
