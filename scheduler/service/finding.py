"""Finding images: a query and options in, a page of images and the cursors beside it out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import sqlalchemy as sa

from scheduler.catalog import cursor
from scheduler.catalog.parse import parse
from storage.contract.errors import InputError
from storage.contract.search import (
    FIELDS,
    And,
    Between,
    Is,
    Like,
    Not,
    Or,
    PromptLike,
    Tree,
    both,
    field_of,
)
from storage.db import images, saved, search, search_notes
from storage.db.engine import Ledger
from storage.db.images import ImageRow
from storage.db.search import Place, Sort
from storage.db.search_index import Indexer
from storage.db.search_sql import bounded

CATCH_UP_SECONDS: Final = 10.0
COUNT_SECONDS: Final = 120.0
HIDDEN: Final = "hidden"
"""The field of images that are deleted and not purged yet: found only if asked for."""

SORTS: Final = tuple(one.name for one in FIELDS if one.sortable)


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What to look for: all of it must hold."""

    query: str = ""
    job: str | None = None
    failed: bool = False
    tags: tuple[tuple[str, str], ...] = ()
    contains: str | None = None
    prompt_like: str | None = None
    seed: int | None = None
    model: str | None = None
    row: int | None = None
    truncated: bool = False


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A page: images with the names of their jobs, and the cursors of its neighbours."""

    images: list[tuple[str, ImageRow]]
    next: str | None = None
    previous: str | None = None
    waiting: int = 0  #: images that are not searchable yet, at most


class Counted(msgspec.Struct, frozen=True):
    """How many images match."""

    images: int
    exact: bool


def sort_of(text: str) -> Sort:
    """``-created`` and the like; `InputError` for what images are not sorted by."""
    known = field_of(text.lstrip("+-"))
    if known is None or not known.sortable or text.startswith("--"):
        raise InputError(
            f"--sort {text}: images are not sorted by that",
            hint=f"sort by one of {', '.join(SORTS)}; -created puts the newest first",
        )
    return Sort(known.name, text.startswith("-"))


def find(
    ledger: Ledger,
    ask: Ask,
    *,
    sort: Sort,
    limit: int,
    after: str | None = None,
    before: str | None = None,
) -> Found:
    """One page of what matches, after or before a cursor."""
    if after is not None and before is not None:
        raise InputError("--after and --before go in opposite directions", hint="give one of them")
    own = msgspec.json.encode(ask).decode()
    given = after if before is None else before
    place = cursor.decode(given, own, sort) if given is not None else None
    with ledger.read() as connection, bounded(connection):
        tree = tree_of(connection, ask, now=ledger.now())
        way = sort if before is None else sort.turned
        hits = search.page(connection, tree, sort=way, limit=limit + 1, after=place)
        more, hits = len(hits) > limit, hits[:limit]
        if before is not None:
            hits.reverse()
        rows = images.of_keys(connection, [(hit.job_id, hit.item) for hit in hits])
        waiting = search_notes.lag(connection).items
    shown = [rows[key] for hit in hits if (key := (hit.job_id, hit.item)) in rows]
    first, last = (hits[0].place, hits[-1].place) if hits else (None, None)
    return Found(
        images=shown,
        next=_cursor(last, more or before is not None, own, sort),
        previous=_cursor(first, after is not None or (before is not None and more), own, sort),
        waiting=waiting,
    )


def count(ledger: Ledger, ask: Ask, *, exact: bool) -> Counted:
    """How many images match: about, or exactly."""
    with ledger.read() as connection, bounded(connection, COUNT_SECONDS):
        tree = tree_of(connection, ask, now=ledger.now())
        if exact:
            return Counted(search.count(connection, tree), True)
        return Counted(*search.estimate(connection, tree))


def tree_of(connection: sa.Connection, ask: Ask, *, now: float) -> Tree:
    """All that is asked for as one query."""

    def known(name: str) -> str | None:
        return saved.find(connection, name)

    query = parse(ask.query, now=now, saved=known)
    parts: list[Tree] = [query, *_not_hidden(connection, query)]
    parts += [Is(f"tag.{name}", value) for name, value in ask.tags]
    for name in ("job", "model"):
        value = getattr(ask, name)
        if value is not None:
            parts.append(Is(name, value))
    for name in ("seed", "row"):
        value = getattr(ask, name)
        if value is not None:
            parts.append(Between(name, value, value))
    if ask.failed:
        parts.append(Is("outcome", "failed"))
    if ask.truncated:
        parts.append(Between("truncated", 1, None))
    if ask.contains is not None:
        parts.append(PromptLike(f"%{_escaped(ask.contains)}%"))
    if ask.prompt_like is not None:
        parts.append(PromptLike(_like(ask.prompt_like)))
    return both(*parts)


def _not_hidden(connection: sa.Connection, query: Tree) -> list[Tree]:
    """What leaves deleted images out, where there are any and the query does not ask for them."""
    if _mentions(query, HIDDEN) or not search.is_known(connection, HIDDEN, "true"):
        return []
    return [Not(Is(HIDDEN, "true"))]


def _mentions(tree: Tree, field: str) -> bool:
    """Whether a query asks for that field anywhere."""
    match tree:
        case And(parts=parts) | Or(parts=parts):
            return any(_mentions(part, field) for part in parts)
        case Not(part=part):
            return _mentions(part, field)
        case Is(field=own) | Like(field=own) | Between(field=own):
            return own == field
        case _:
            return False


def catch_up(ledger: Ledger, seconds: float = CATCH_UP_SECONDS) -> int:
    """Index what was recorded since; on a farm the scheduler does it."""
    return Indexer(ledger).catch_up(seconds)


def save(ledger: Ledger, name: str, query: str) -> None:
    """Keep a query, after checking it."""
    if not name or not name.replace("-", "").replace("_", "").isalnum():
        raise InputError(f"{name!r}: a name is letters, digits, - and _", hint="such as good-foxes")
    with ledger.write() as connection:
        text = query.replace("\x00", "�")

        def known(other: str) -> str | None:
            return text if other == name else saved.find(connection, other)

        parse(query, now=ledger.now(), saved=known)
        saved.save(connection, name, query, now=ledger.now())


def _cursor(place: Place | None, wanted: bool, own: str, sort: Sort) -> str | None:
    return cursor.encode(place, own, sort) if place is not None and wanted else None


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


_MOST_SIGNS: Final = 20
_LONGEST_PATTERN: Final = 1_000


def _like(pattern: str) -> str:
    """A pattern that may cost no more than it should."""
    signs: Sequence[str] = [letter for letter in pattern if letter in "%_"]
    if len(pattern) > _LONGEST_PATTERN or len(signs) > _MOST_SIGNS:
        raise InputError(
            f"--prompt-like takes up to {_LONGEST_PATTERN:,} characters"
            f" and {_MOST_SIGNS} of % and _",
            hint="search for words with a query instead",
        )
    if not pattern.isprintable():
        raise InputError("--prompt-like: there are control characters in it")
    ends = len(pattern) - len(pattern.rstrip("\\"))
    return pattern + "\\" if ends % 2 else pattern
