"""What people do with images that are there: mark them, hide them, and have them purged.

All of it goes by queries, or by the id of one image. Images are taken some thousands at a time,
each in a transaction of its own: nothing is locked for long, and a command that was killed is
given again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec
import sqlalchemy as sa

from scheduler.service.finding import Ask, catch_up, tree_of
from storage.contract.errors import InputError, NotFoundError
from storage.contract.keys import parse_image_id
from storage.contract.search import Between, Tree, both
from storage.db import images, marks, purging, retention, search
from storage.db.engine import Ledger
from storage.db.marks import Keys
from storage.db.purging import Key
from storage.db.retention import Rule
from storage.db.rows import batched
from storage.db.search import Sort
from storage.db.search_plan import Planner
from storage.db.search_sql import bounded
from storage.db.tables import images as image_table
from storage.ports import ObjectStore

AT_ONCE: Final = 2_000
"""Images changed in one transaction."""

PURGED_AT_ONCE: Final = 500
SELECT_SECONDS: Final = 120.0
RATINGS: Final = range(1, 6)
GRACE_SECONDS: Final = 7 * 86_400.0
"""How long hidden images can be had back, unless a purge says otherwise."""

MOMENT_SECONDS: Final = 0.5

_LONGEST_NAME: Final = 100

Mark = Callable[[sa.Connection, Keys], int]


class Purged(msgspec.Struct, frozen=True, kw_only=True):
    """What a purge removed."""

    images: int = 0
    objects: int = 0


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """What a retention rule would hide now."""

    rule: Rule
    images: int
    bytes: int


def select(ledger: Ledger, text: str, *, home: bool, hidden: bool = False) -> list[Key]:
    """The images a query finds, or the one of an id; the index of a `home` catches up first.

    With `hidden` only images that are hidden, else only such as are shown. An empty query is
    refused: it would mean all images.
    """
    if not text.strip():
        raise InputError(
            "this needs a query, or the id of an image",
            hint="all images are: created:*",
        )
    if (one := _image(ledger, text)) is not None:
        return [one]
    if home:
        index_all(ledger)
    query = f"({text}) AND hidden:true" if hidden else text
    with ledger.read() as connection, bounded(connection, SELECT_SECONDS):
        tree = tree_of(connection, Ask(query=query), now=ledger.now())
        return _matching(connection, tree)


def index_all(ledger: Ledger) -> None:
    """Make all images searchable, where no scheduler does so."""
    while catch_up(ledger):
        pass


def apply(ledger: Ledger, keys: Sequence[Key], mark: Mark) -> int:
    """Mark images, some at a time; how many changed."""
    changed = 0
    for some in batched(keys, AT_ONCE):
        with ledger.write() as connection:
            changed += mark(connection, some)
    return changed


def checked_name(name: str, what: str) -> str:
    """The name of a tag or collection; `InputError` for what is none."""
    if not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
        raise InputError(
            f"{name[:40]!r} cannot be the name of a {what}: it must be 1 to {_LONGEST_NAME}"
            " printable characters"
        )
    return name.strip()


def checked_rating(rating: int) -> int | None:
    """A rating, None for 0, which takes it away; `InputError` for any other number."""
    if rating and rating not in RATINGS:
        raise InputError(f"a rating is a number from 1 to 5, or 0 for none; not {rating}")
    return rating or None


def empty_collection(ledger: Ledger, name: str) -> int:
    """Take all images out of a collection; how many; `NotFoundError` if there is none."""
    count = 0
    while True:
        with ledger.write() as connection:
            keys = marks.collection_keys(connection, name, limit=AT_ONCE)
            marks.uncollect(connection, keys, name, now=ledger.now())
        if not keys:
            break
        count += len(keys)
    if not count:
        raise NotFoundError(f"no collection {name!r}", hint="list them: rendermill collection list")
    return count


def purge(
    ledger: Ledger,
    store: ObjectStore,
    *,
    older_than: float = GRACE_SECONDS,
    seconds: float | None = None,
    told: Callable[[Purged], None] = lambda _: None,
) -> Purged:
    """Remove what was hidden longer than that ago; for about so many `seconds`, or all of it.

    What a killed purge left is finished, however long ago it was hidden.
    """
    before = ledger.now() - older_than
    until = None if seconds is None else time.monotonic() + seconds
    done = Purged()
    while until is None or time.monotonic() < until:
        with ledger.write() as connection:
            found = purging.due(connection, before=before, limit=PURGED_AT_ONCE)
            doomed = purging.mark(connection, found)
        if not found:
            break
        with ledger.read() as connection:
            objects = purging.objects_of(connection, doomed)
        store.delete(objects)
        with ledger.write() as connection:
            purging.remove(connection, doomed)
        done = Purged(images=done.images + len(doomed), objects=done.objects + len(objects))
        told(done)
    return done


def add_rule(
    ledger: Ledger, query: str, *, keep_seconds: float | None, max_bytes: int | None
) -> int:
    """Write a retention rule, after checking its query; its number."""
    with ledger.write() as connection:
        now = ledger.now()
        tree_of(connection, Ask(query=query), now=now)
        return retention.add(
            connection, query, keep_seconds=keep_seconds, max_bytes=max_bytes, now=now
        )


def keep_for_a_moment(ledger: Ledger, store: ObjectStore) -> None:
    """What a leading scheduler does now and then: a step of retention, and of purging.

    Both stop after about a second, so that leases and tickets do not wait, and go on next time.
    """
    enforce(ledger, seconds=MOMENT_SECONDS)
    purge(ledger, store, seconds=MOMENT_SECONDS)


def due(ledger: Ledger, rule: Rule) -> Iterator[list[tuple[Key, int]]]:
    """What a rule would hide, page by page: images with their bytes."""
    yield from _expired(ledger, rule) if rule.keep_seconds is not None else ()
    yield from _beyond(ledger, rule) if rule.max_bytes is not None else ()


def foresee(ledger: Ledger) -> list[Due]:
    """What each retention rule would hide now."""
    with ledger.read() as connection:
        rules = retention.every(connection)
    found = []
    for rule in rules:
        sizes = {key: size for page in due(ledger, rule) for key, size in page}
        found.append(Due(rule=rule, images=len(sizes), bytes=sum(sizes.values())))
    return found


def enforce(ledger: Ledger, *, seconds: float | None = None) -> int:
    """Hide what the retention rules say; how many images. For about so many `seconds`."""
    until = None if seconds is None else time.monotonic() + seconds
    with ledger.read() as connection:
        rules = retention.every(connection)
    hidden = 0
    for rule in rules:
        for page in due(ledger, rule):
            with ledger.write() as connection:
                hidden += marks.hide(connection, [key for key, _ in page], now=ledger.now())
            if until is not None and time.monotonic() > until:
                return hidden
    return hidden


def _expired(ledger: Ledger, rule: Rule) -> Iterator[list[tuple[Key, int]]]:
    """Images of a rule that are older than it keeps them, the oldest first."""
    now = ledger.now()
    too_old = Between("created", None, now - (rule.keep_seconds or 0.0), with_high=False)
    yield from _pages(ledger, rule, too_old, newest_first=False)


def _beyond(ledger: Ledger, rule: Rule) -> Iterator[list[tuple[Key, int]]]:
    """Images of a rule beyond its bytes, counted from the newest; links take none."""
    total = 0
    for page in _pages(ledger, rule, None, newest_first=True):
        beyond = []
        for key, size in page:
            total += size
            if total > (rule.max_bytes or 0):
                beyond.append((key, size))
        if beyond:
            yield beyond


def _pages(
    ledger: Ledger, rule: Rule, also: Tree | None, *, newest_first: bool
) -> Iterator[list[tuple[Key, int]]]:
    """Images that a rule's query finds and that are shown, with their bytes."""
    after = None
    while True:
        with ledger.read() as connection, bounded(connection):
            tree = tree_of(connection, Ask(query=rule.query), now=ledger.now())
            wanted = tree if also is None else both(tree, also)
            sort = Sort("created", newest_first)
            hits = search.page(connection, wanted, sort=sort, limit=AT_ONCE, after=after)
            sizes = _sizes(connection, [(hit.job_id, hit.item) for hit in hits])
        page = [(key, sizes[key]) for hit in hits if (key := (hit.job_id, hit.item)) in sizes]
        if page:
            yield page
        if len(hits) < AT_ONCE:
            return
        after = hits[-1].place


def _sizes(connection: sa.Connection, keys: Sequence[Key]) -> dict[Key, int]:
    """Bytes of the images that are shown; a link takes none."""
    found = images.of_keys(connection, keys)
    return {
        key: 0 if row.linked_job is not None else row.bytes or 0
        for key, (_, row) in found.items()
        if row.hidden_at is None
    }


def _matching(connection: sa.Connection, tree: Tree) -> list[Key]:
    plan = Planner(connection).whole(tree)
    found = search.matching(connection, plan).subquery()
    rows = connection.execute(
        sa.select(found.c.job_id, found.c.item).order_by(found.c.job_id, found.c.item)
    )
    return [(row[0], row[1]) for row in rows]


def _image(ledger: Ledger, text: str) -> Key | None:
    """The image of an id like ``shapes/12``; None if the text is none."""
    try:
        job, item = parse_image_id(text)
    except ValueError:
        return None
    with ledger.read() as connection:
        row = images.get(connection, job, item)
    return row.job_id, row.item


def bytes_of(ledger: Ledger, keys: Sequence[Key]) -> int:
    """Bytes that these images alone take, for asking before they go."""
    total = 0
    by_job: dict[int, list[int]] = {}
    for job_id, item in keys:
        by_job.setdefault(job_id, []).append(item)
    with ledger.read() as connection:
        for job_id, items in by_job.items():
            for some in batched(items, 1_000):
                total += connection.execute(
                    sa.select(sa.func.coalesce(sa.func.sum(image_table.c.bytes), 0)).where(
                        image_table.c.job_id == job_id,
                        image_table.c.item.in_(some),
                        image_table.c.linked_job.is_(None),
                    )
                ).scalar_one()
    return total
