"""How the two databases are asked for a plan: a tsvector's index here, FTS5 there.

FTS5 gives what matches in the order of catalog numbers, and can begin anywhere in it.
PostgreSQL's index gives it in no order; blocks of numbers are terms there. No text of a query
reaches either: words are numbers by now, and the rest are bound values.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, ClassVar, Final, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.engine import Connection

from storage.contract.errors import SearchTimeout
from storage.db.search_plan import (
    AllOf,
    Check,
    OneOf,
    Phrase,
    Plan,
    Terms,
    Without,
    is_exact,
    share_of,
)
from storage.db.tables import search

NO_TERM: Final = "zz"
"""No image has it."""

PAGE_SECONDS: Final = 10.0
_RARER: Final = "ask for something rarer, or for the images of one job"
_STEPS_BETWEEN_LOOKS: Final = 20_000
_FEW_TERMS: Final = 8
_FTS = sa.table("search_fts", sa.column("rowid", sa.Integer))


class Spelling(Protocol):
    """What differs between the databases."""

    is_ordered: ClassVar[bool]  #: the index of terms gives catalog numbers in order

    def condition(self, plan: Plan) -> sa.ColumnElement[bool]:
        """The plan as a condition of a row of the search table."""
        ...

    def driven(self, drive: Plan, rest: Plan, blocks: list[str] | None) -> sa.Select[Any]:
        """Number, job and item of images by the index of terms, in no order."""
        ...

    def streamed(self, drive: Plan, rest: Plan, down: bool) -> sa.Select[Any]:
        """Number, job, item and a null, in order; only where `is_ordered`."""
        ...

    def border(self, after: int | None, *, descending: bool) -> Iterator[sa.ColumnElement[bool]]:
        """That a streamed statement begins beyond a number."""
        ...

    def prepare(self, connection: Connection, *, walk: bool) -> None:
        """Hold the database to walking an index in order, or to the index of terms."""
        ...

    def release(self, connection: Connection) -> None:
        """Leave the database to its own judgement again."""
        ...


def spelling_of(connection: Connection) -> Spelling:
    """The one of the connection's database."""
    if connection.dialect.name == "postgresql":
        return _Vectors()
    driver: Any = connection.connection.driver_connection
    driver.create_function("has_any", 2, _has_any, deterministic=True)
    return _FullText()


@contextmanager
def bounded(
    connection: Connection, seconds: float = PAGE_SECONDS, *, hint: str = _RARER
) -> Iterator[None]:
    """End what is asked within after that many seconds, with `SearchTimeout`."""
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(
            f"SET LOCAL statement_timeout = {int(seconds * 1000)};"
            "SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL enable_seqscan = off"
        )
    else:
        until = time.monotonic() + seconds
        driver.set_progress_handler(lambda: time.monotonic() > until, _STEPS_BETWEEN_LOOKS)
    try:
        yield
    except sa.exc.DBAPIError as error:
        said = str(error.orig)
        if "interrupted" not in said and "statement timeout" not in said:
            raise
        raise SearchTimeout(
            f"the search was ended after {seconds:g} seconds",
            hint=hint,
        ) from error
    finally:
        if connection.dialect.name != "postgresql":
            driver.set_progress_handler(None, 0)


class _Vectors:
    """PostgreSQL."""

    is_ordered: ClassVar[bool] = False

    def condition(self, plan: Plan) -> sa.ColumnElement[bool]:
        if isinstance(plan, AllOf):
            exact = tuple(one for one in plan.parts if is_exact(one))
            others = [self.condition(one) for one in plan.parts if not is_exact(one)]
            if exact:
                others.append(_matches(tsquery(AllOf(parts=exact))))
            return sa.and_(sa.true(), *others)
        if is_exact(plan):
            return _matches(tsquery(plan))
        return _condition(self, plan)

    def driven(self, drive: Plan, rest: Plan, blocks: list[str] | None) -> sa.Select[Any]:
        first, *others = _keys(drive)
        keys = [first, " | ".join(blocks), *others] if blocks else [first, *others]
        return sa.select(search.c.n, search.c.job_id, search.c.item).where(
            *map(_matches, keys), self.condition(rest)
        )

    def streamed(self, drive: Plan, rest: Plan, down: bool) -> sa.Select[Any]:
        raise NotImplementedError

    def border(self, after: int | None, *, descending: bool) -> Iterator[sa.ColumnElement[bool]]:
        raise NotImplementedError

    def prepare(self, connection: Connection, *, walk: bool) -> None:
        bitmap, index = ("off", "on") if walk else ("on", "off")
        connection.exec_driver_sql(
            f"SET LOCAL enable_bitmapscan = {bitmap}; SET LOCAL enable_indexscan = {index}"
        )

    def release(self, connection: Connection) -> None:
        connection.exec_driver_sql(
            "SET LOCAL enable_bitmapscan = on; SET LOCAL enable_indexscan = on"
        )


class _FullText:
    """SQLite."""

    is_ordered: ClassVar[bool] = True

    def condition(self, plan: Plan) -> sa.ColumnElement[bool]:
        match plan:
            case Terms(ids=ids) if len(ids) > _FEW_TERMS:
                any_of = " ".join(map(str, ids))
                return sa.func.has_any(search.c.terms, any_of, type_=sa.Integer) == 1
            case Terms(ids=ids):
                return sa.or_(sa.false(), *(_within(f" {one} ") for one in ids))
            case Phrase(ids=ids):
                return _within(f" {' '.join(map(str, ids))} ")
            case _:
                return _condition(self, plan)

    def driven(self, drive: Plan, rest: Plan, blocks: list[str] | None) -> sa.Select[Any]:
        del blocks
        return (
            sa.select(search.c.n, search.c.job_id, search.c.item)
            # The sum keeps SQLite from looking each image up in the index of terms.
            .where(_fits(drive), search.c.n == _FTS.c.rowid + 0, self.condition(rest))
            .select_from(_FTS, search)
        )

    def streamed(self, drive: Plan, rest: Plan, down: bool) -> sa.Select[Any]:
        statement = self.driven(drive, rest, None).add_columns(sa.null())
        return statement.order_by(_FTS.c.rowid.desc() if down else _FTS.c.rowid)

    def border(self, after: int | None, *, descending: bool) -> Iterator[sa.ColumnElement[bool]]:
        if after is not None:
            yield _FTS.c.rowid < after if descending else _FTS.c.rowid > after

    def prepare(self, connection: Connection, *, walk: bool) -> None:
        """Nothing: its planner is led by how the statement is written."""

    def release(self, connection: Connection) -> None:
        """Nothing."""


def _condition(spelling: Spelling, plan: Plan) -> sa.ColumnElement[bool]:
    match plan:
        case AllOf(parts=parts):
            return sa.and_(sa.true(), *map(spelling.condition, parts))
        case OneOf(parts=parts):
            return sa.or_(sa.false(), *map(spelling.condition, parts))
        case Without(part=part):
            return sa.not_(sa.func.coalesce(spelling.condition(part), sa.false()))
        case Check(condition=condition):
            return condition
        case _:
            raise AssertionError(plan)


# --- The two languages of terms -----------------------------------------------------------------


def tsquery(plan: Plan) -> str:  # noqa: PLR0911 - a return a kind
    """The plan in PostgreSQL's language; it must be exact."""
    match plan:
        case Terms(ids=ids):
            return f"({' | '.join(map(str, ids))})"
        case Phrase(ids=ids):
            return f"({' <-> '.join(map(str, ids))})"
        case AllOf(parts=parts) if parts:
            return f"({' & '.join(map(tsquery, parts))})"
        case OneOf(parts=parts) if parts:
            return f"({' | '.join(map(tsquery, parts))})"
        case Without(part=part):
            return f"!{tsquery(part)}"
        case OneOf():
            return NO_TERM
        case _:
            return f"!{NO_TERM}"


def full_text(plan: Plan) -> str:
    """The plan in FTS5's language; something in it must be wanted, not only unwanted."""
    match plan:
        case Terms(ids=ids):
            return f"({' OR '.join(map(str, ids))})"
        case Phrase(ids=ids):
            return f'"{" ".join(map(str, ids))}"'
        case AllOf(parts=parts):
            wanted = [full_text(one) for one in parts if not isinstance(one, Without)]
            unwanted = [full_text(one.part) for one in parts if isinstance(one, Without)]
            said = f"({' AND '.join(wanted)})"
            return f"({said} NOT ({' OR '.join(unwanted)}))" if unwanted else said
        case OneOf(parts=parts) if parts:
            return f"({' OR '.join(map(full_text, parts))})"
        case OneOf():
            return NO_TERM
        case _:
            raise AssertionError(plan)


def _keys(drive: Plan) -> list[str]:
    """The drive as several queries that must all hold, the rarest first.

    PostgreSQL lets each skip to where the others are; within one query it reads all its words.
    A query of unwanted words only would read the whole index: they go with the first.
    """
    parts = drive.parts if isinstance(drive, AllOf) else (drive,)
    wanted = sorted((one for one in parts if not isinstance(one, Without)), key=share_of)
    unwanted = [one for one in parts if isinstance(one, Without)]
    return [tsquery(AllOf(parts=(wanted[0], *unwanted))), *map(tsquery, wanted[1:])]


def _matches(query: str) -> sa.ColumnElement[bool]:
    return search.c.terms.op("@@", is_comparison=True)(sa.cast(sa.literal(query), TSQUERY))


def _fits(plan: Plan) -> sa.ColumnElement[bool]:
    return sa.literal_column("search_fts").op("MATCH", is_comparison=True)(full_text(plan))


def _within(part: str) -> sa.ColumnElement[bool]:
    return sa.func.instr(search.c.terms, part, type_=sa.Integer) > 0


def _has_any(terms: str, ids: str) -> int:
    return int(not _set_of(ids).isdisjoint(terms.split()))


@lru_cache(maxsize=16)
def _set_of(ids: str) -> frozenset[str]:
    return frozenset(ids.split())
