"""Searching the catalog page by page, in the catalog's order or sorted by a number.

No index knows both which images have a word and how they are sorted. So a page is looked for
in the way that reads least, chosen by how many images are expected to match:

- *many*: walk the images in the order wanted and keep what matches;
- *few*: take all that match, and sort them;
- *between*: take what matches within one end of the order after another. In the catalog's own
  order such an end is a block of numbers, sorted by a column it is one of the column's buckets:
  both are terms of the index too, so what it has to read is the smaller of the two.

A page that turns out to hold too few goes on where that left off. Deep pages start at a border
in that order, and cost what the first one costs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.contract.errors import QueryError
from storage.contract.search import Kind, Tree, field_of
from storage.db.search_plan import (
    AllOf,
    Check,
    Plan,
    Planner,
    Terms,
    drive_of,
    is_broad,
    likely_of,
    rest_of,
    share_of,
)
from storage.db.search_sql import Spelling, spelling_of
from storage.db.search_terms import BLOCKS, SMALLEST, bucket_field, bucket_of, covering
from storage.db.tables import search, search_words

FEW: Final = 1_500
"""Matches that are fetched and sorted rather than looked for in order."""

WALK_SHARE: Final = 0.01
"""Share of images from which walking in the catalog's order finds a page soon."""

SORTED_WALK_SHARE: Final = 0.02
"""The same, sorted by a column: each step reads a row somewhere else."""

ROOM: Final = 2.0
"""How many times more matches than are wanted an end of the order should hold."""

WALKED: Final = ("seed", "seconds", "bytes")
"""Columns with an index to walk."""


class Sort(msgspec.Struct, frozen=True):
    """By which field, and which way; images of equal value come in the same way."""

    field: str = "created"
    descending: bool = True

    @property
    def turned(self) -> Sort:
        """The other way round."""
        return Sort(self.field, not self.descending)


class Place(msgspec.Struct, frozen=True):
    """A border between two images in sorted order: the value and number of the last one."""

    n: int
    value: float | None = None


class Hit(msgspec.Struct, frozen=True):
    """One image that was found."""

    job_id: int
    item: int
    place: Place


def page(
    connection: Connection,
    tree: Tree,
    *,
    sort: Sort,
    limit: int,
    after: Place | None = None,
) -> list[Hit]:
    """Up to `limit` images that match, beginning beyond `after`.

    `created` sorts in the order the images came into the catalog. Sorted by another column,
    images without a value are left out.
    """
    planner = Planner(connection)
    plan = planner.whole(tree)
    if not planner.total:
        return []
    spelling = spelling_of(connection)
    looking = _Search(connection, planner, spelling, sort, limit)
    if sort.field == "created":
        found = looking.in_order(plan, after.n if after else None)
    else:
        found = looking.sorted(plan, after)
    spelling.release(connection)
    return found


def estimate(connection: Connection, tree: Tree) -> tuple[int, bool]:
    """About how many images match, and whether that is exact, without looking for them."""
    planner = Planner(connection)
    plan = planner.whole(tree)
    match plan.parts:
        case () | (Terms(ids=(_,)),):
            sure = True
        case _:
            sure = False
    return round(share_of(plan) * planner.total), sure


def count(connection: Connection, tree: Tree) -> int:
    """How many images match."""
    known, sure = estimate(connection, tree)
    if sure:
        return known
    plan = Planner(connection).whole(tree)
    counted = sa.select(sa.func.count()).select_from(matching(connection, plan).subquery())
    return int(connection.execute(counted).scalar_one())


def is_known(connection: Connection, field: str, value: str) -> bool:
    """Whether any image has that value."""
    found = connection.execute(
        sa.select(search_words.c.images).where(
            search_words.c.field == field, search_words.c.value == value
        )
    ).scalar()
    return bool(found)


def matching(connection: Connection, plan: Plan) -> sa.Select[Any]:
    """Catalog numbers, jobs and items of all images that match, in no order."""
    spelling = spelling_of(connection)
    drive = drive_of(plan)
    if drive is None or share_of(drive) > 0.3:
        return sa.select(search.c.n, search.c.job_id, search.c.item).where(spelling.condition(plan))
    return spelling.driven(drive, rest_of(plan), None)


@dataclass(kw_only=False, slots=True)
class _Search:
    """One page being looked for."""

    connection: Connection
    planner: Planner
    spelling: Spelling
    sort: Sort
    limit: int

    # --- In the catalog's order -----------------------------------------------------------------

    def in_order(self, plan: AllOf, after: int | None) -> list[Hit]:
        """The page in the order of catalog numbers."""
        drive = drive_of(plan)
        share = share_of(plan)
        if _quick(plan) or drive is None:
            return self._walk(plan, after, None)
        if self.spelling.is_ordered:  # FTS5 finds in this order by itself
            if is_broad(drive) and share >= WALK_SHARE:
                return self._walk(plan, after, None)
            return self._stream(plan, drive, after)
        dated = _dated(plan)
        found, after = self._before_dates(plan, drive, dated, after)
        if len(found) >= self.limit:
            return found
        run = replace(self, limit=self.limit - len(found))
        near = AllOf(parts=tuple(one for one in plan.parts if one is not dated))
        if share_of(near) >= WALK_SHARE:
            return found + run._walk_blocks(plan, after, share_of(near))
        return found + run._by_blocks(plan, drive, after, likely_of(near))

    def _walk(self, plan: Plan, after: int | None, until: int | None) -> list[Hit]:
        statement = self._rows().where(self.spelling.condition(plan))
        return self._hits(self._cut(statement, after, until), walk=True)

    def _stream(self, plan: Plan, drive: Plan, after: int | None) -> list[Hit]:
        statement = self.spelling.streamed(drive, rest_of(plan), self.sort.descending)
        border = self.spelling.border(after, descending=self.sort.descending)
        return self._hits(statement.where(*border).limit(self.limit))

    def _walk_blocks(self, plan: Plan, after: int | None, share: float) -> list[Hit]:
        """Walk some way, and if that was not enough, go by blocks from there."""
        steps = int(self.limit / max(share, 1e-12) * ROOM) + 64
        start = self._edge(after)
        until = start - steps if self.sort.descending else start + steps
        found = self._walk(plan, after, until)
        rest = self.limit - len(found)
        if rest <= 0 or self._is_end(until):
            return found
        further = replace(self, limit=rest)
        drive = drive_of(plan)
        assert drive is not None  # noqa: S101 - for the type checker
        edge = until + 1 if self.sort.descending else until - 1
        return found + further._by_blocks(plan, drive, edge, share / 8)

    def _before_dates(
        self, plan: AllOf, drive: Plan, dated: Check | None, after: int | None
    ) -> tuple[list[Hit], int | None]:
        """What lies nearer than the dates asked for, and the border it was looked for up to.

        There is next to nothing, and PostgreSQL sees so by skipping from block to day.
        """
        if dated is None or dated.numbers is None:
            return [], after
        first, last = dated.numbers
        start = self._edge(after)
        if self.sort.descending:
            border = ((last >> SMALLEST) + 2) << SMALLEST
            passed = covering(border, start)
        else:
            border = (max(0, (first >> SMALLEST) - 1) << SMALLEST) - 1
            passed = covering(start, border)
        if not passed:
            return [], after
        return self._in_blocks(plan, drive, passed, after), border

    def _by_blocks(self, plan: Plan, drive: Plan, after: int | None, share: float) -> list[Hit]:
        """Match within blocks of catalog numbers, as large as what was found so far suggests."""
        found: list[Hit] = []
        start = self._edge(after)
        wanted = self.limit / max(share, 1e-12) * ROOM
        while len(found) < self.limit and not self._is_end(start):
            blocks, stop = self._blocks(start, wanted)
            run = replace(self, limit=self.limit - len(found))
            border = start + 1 if self.sort.descending else start - 1
            new = run._in_blocks(plan, drive, blocks, border)
            found += new
            start = stop
            wanted *= min(8.0, ROOM * (run.limit - len(new)) / len(new)) if new else 8.0
        return found

    def _in_blocks(
        self, plan: Plan, drive: Plan, blocks: list[str] | None, after: int | None
    ) -> list[Hit]:
        """The first of all matches in some blocks."""
        statement = self.spelling.driven(drive, rest_of(plan), blocks)
        inner = statement.cte("hits").prefix_with("MATERIALIZED", dialect="postgresql")
        columns = sa.select(inner.c.n, inner.c.job_id, inner.c.item, sa.null())
        ordered = _cut(columns, inner.c.n, self.sort.descending, after, None)
        return self._hits(ordered.limit(self.limit))

    def _blocks(self, start: int, wanted: float) -> tuple[list[str] | None, int]:
        """Terms of the blocks from `start` on that hold about `wanted` images; where they end."""
        down = self.sort.descending
        if wanted > self.planner.total:
            return None, -1 if down else _BEYOND
        for letter, power in BLOCKS:
            size = 1 << power
            if wanted <= size * 4:
                number = max(1, -(-int(wanted) // size) + 1)
                first = start >> power
                step = -1 if down else 1
                blocks = [f"{letter}{first + step * i}" for i in range(number)]
                last = first + step * (number - 1)
                return blocks, (last << power) - 1 if down else (last + 1) << power
        return None, -1 if down else _BEYOND

    def _edge(self, after: int | None) -> int:
        """The first catalog number that may be found."""
        if after is not None:
            return after - 1 if self.sort.descending else after + 1
        if not self.sort.descending:
            return 0
        return self.planner.last

    def _is_end(self, n: int) -> bool:
        if self.sort.descending:
            return n < 0
        return n > self.planner.last

    # --- Sorted by a column ---------------------------------------------------------------------

    def sorted(self, plan: Plan, after: Place | None) -> list[Hit]:
        """The page sorted by a numeric field."""
        known = field_of(self.sort.field)
        if known is None or not known.sortable:
            raise QueryError(f"images cannot be sorted by {self.sort.field}")
        if known.kind is Kind.NUMBER:
            return list(self._by_values(plan, after))
        column = search.c[known.source]
        share = share_of(plan)
        drive = drive_of(plan)
        if _few(plan) or (drive is not None and share_of(drive) * self.planner.total <= FEW):
            return self._all_sorted(plan, drive, column, after)
        if drive is None or share >= SORTED_WALK_SHARE:
            return self._walk_sorted(plan, column, after)
        return self._by_buckets(plan, drive, column, after)

    def _walk_sorted(self, plan: Plan, column: sa.Column[Any], after: Place | None) -> list[Hit]:
        statement = sa.select(search.c.n, search.c.job_id, search.c.item, column)
        statement = statement.where(column.is_not(None), self.spelling.condition(plan))
        ordered = _sorted(statement, (column, search.c.n), self.sort, after)
        return self._hits(ordered.limit(self.limit), walk=True)

    def _all_sorted(
        self, plan: Plan, drive: Plan | None, column: sa.Column[Any], after: Place | None
    ) -> list[Hit]:
        """Take all, or all of some buckets, and sort them."""
        if drive is None or _few(plan):
            inner = self._rows().add_columns(column.label("value"))
            found = inner.where(self.spelling.condition(plan), column.is_not(None)).cte("hits")
        else:
            statement = self.spelling.driven(drive, rest_of(plan), None)
            found = statement.add_columns(column.label("value")).cte("hits")
        found = found.prefix_with("MATERIALIZED")
        columns = sa.select(found.c.n, found.c.job_id, found.c.item, found.c.value)
        columns = columns.where(found.c.value.is_not(None))
        value = found.c.value
        ordered = _sorted(columns, (value, found.c.n), self.sort, after)
        return self._hits(ordered.limit(self.limit), walk=drive is None or _few(plan))

    def _by_buckets(
        self, plan: Plan, drive: Plan, column: sa.Column[Any], after: Place | None
    ) -> list[Hit]:
        """Bucket after bucket of the column, from the one `after` lies in."""
        found: list[Hit] = []
        wanted = self.limit * ROOM
        share = share_of(plan)
        some: list[int] = []
        images = 0
        for bucket in self._buckets_from(after):
            some.append(bucket.id)
            images += bucket.images
            if images * share < wanted:
                continue
            found += self._in_buckets(plan, drive, some, column, after)
            if len(found) >= self.limit:
                return found[: self.limit]
            some, images, wanted = [], 0, wanted * 4
        if some:
            found += self._in_buckets(plan, drive, some, column, after)
        return found[: self.limit]

    def _in_buckets(
        self, plan: Plan, drive: Plan, ids: list[int], column: sa.Column[Any], after: Place | None
    ) -> list[Hit]:
        bucket = Terms(ids=tuple(ids), share=1.0)
        narrowed = AllOf(parts=(drive, bucket))
        parts = plan.parts if isinstance(plan, AllOf) else (plan,)
        return self._all_sorted(AllOf(parts=(*parts, bucket)), narrowed, column, after)

    def _buckets_from(self, after: Place | None) -> Iterator[sa.Row[Any]]:
        known = field_of(self.sort.field)
        assert known is not None  # noqa: S101 - for the type checker
        buckets = self.planner.buckets(bucket_field(known.name))
        border = None
        if after is not None and after.value is not None:
            border = bucket_of(known.kind, after.value)
        for bucket in reversed(buckets) if self.sort.descending else buckets:
            passed = border is not None and (
                bucket.number > border if self.sort.descending else bucket.number < border
            )
            if not passed:
                yield bucket

    def _by_values(self, plan: Plan, after: Place | None) -> Iterator[Hit]:
        """Value after value of a field with few of them, each in the catalog's order."""
        values = self.planner.buckets(self.sort.field)
        left = self.limit
        for value in reversed(values) if self.sort.descending else values:
            n = None
            if after is not None and after.value is not None:
                beyond = value.number - after.value
                if beyond * (-1 if self.sort.descending else 1) < 0:
                    continue
                n = after.n if beyond == 0 else None
            own = Terms(ids=(value.id,), share=self.planner.share(value.images))
            parts = plan.parts if isinstance(plan, AllOf) else (plan,)
            run = _Search(self.connection, self.planner, self.spelling, self.sort, left)
            for hit in run.in_order(AllOf(parts=(*parts, own)), n):
                yield Hit(hit.job_id, hit.item, Place(hit.place.n, value.number))
                left -= 1
            if left <= 0:
                return

    # --- Statements -----------------------------------------------------------------------------

    def _rows(self) -> sa.Select[Any]:
        return sa.select(search.c.n, search.c.job_id, search.c.item)

    def _cut(
        self, statement: sa.Select[Any], after: int | None, until: int | None
    ) -> sa.Select[Any]:
        cut = _cut(statement.add_columns(sa.null()), search.c.n, self.sort.descending, after, until)
        return cut.limit(self.limit)

    def _hits(self, statement: sa.Select[Any], *, walk: bool = False) -> list[Hit]:
        self.spelling.prepare(self.connection, walk=walk)
        return [
            Hit(row[1], row[2], Place(row[0], row[3])) for row in self.connection.execute(statement)
        ]


_BEYOND: Final = 2**62


def _quick(plan: Plan) -> bool:
    """Whether an index of a column of its own gives the matches in the catalog's order."""
    parts = plan.parts if isinstance(plan, AllOf) else (plan,)
    return any(isinstance(one, Check) and (one.few or one.ordered) for one in parts)


def _dated(plan: AllOf) -> Check | None:
    """The part that asks for dates, where it is known where those lie."""
    dated = (one for one in plan.parts if isinstance(one, Check) and one.numbers is not None)
    return next(dated, None)


def _few(plan: Plan) -> bool:
    parts = plan.parts if isinstance(plan, AllOf) else (plan,)
    return any(isinstance(one, Check) and one.few for one in parts)


def _cut(
    statement: sa.Select[Any],
    n: sa.ColumnElement[int],
    down: bool,
    after: int | None,
    until: int | None,
) -> sa.Select[Any]:
    """In the order of catalog numbers, between two borders (the second one included)."""
    if after is not None:
        statement = statement.where(n < after if down else n > after)
    if until is not None:
        statement = statement.where(n > until if down else n < until)
    return statement.order_by(n.desc() if down else n)


def _sorted(
    statement: sa.Select[Any],
    columns: tuple[sa.ColumnElement[Any], sa.ColumnElement[int]],
    sort: Sort,
    after: Place | None,
) -> sa.Select[Any]:
    """In the order of a column, and of catalog numbers where it is equal."""
    value, n = columns
    if after is not None and after.value is not None:
        whole = float(after.value).is_integer()
        last = sa.tuple_(sa.literal(int(after.value) if whole else after.value), after.n)
        pair = sa.tuple_(value, n)
        statement = statement.where(pair < last if sort.descending else pair > last)
    order = (value.desc(), n.desc()) if sort.descending else (value, n)
    return statement.order_by(*order)
