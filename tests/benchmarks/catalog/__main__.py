"""How fast the catalog is searched: thirty queries, first and deep pages, beside plain SQL.

    python -m tests.benchmarks.catalog --images 1000000 [--postgres URL] [--sqlite FILE]
        [--prompts PartiPrompts.tsv] [--rounds 10] [--deep 40] [--plain-seconds 5] [--keep]

URL is a server's maintenance database: a database of its own is made there, and dropped after.
FILE must not exist; with `--keep` it and the database stay, and are used again the next time.
Prints a Markdown section. Ten million images take some 15 GB of disk on each engine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from scheduler.service.finding import Ask, find, sort_of
from storage.contract.errors import SearchTimeout
from storage.db.engine import Ledger, open_postgres, open_sqlite
from storage.db.schema import ensure_schema
from storage.db.search_sql import bounded
from storage.db.tables import search, search_words
from tests.benchmarks.catalog.generate import Maker, words_in
from tests.benchmarks.catalog.load import Loader
from tests.benchmarks.catalog.queries import QUERIES, Query

PAGE: Final = 50
SHARES: Final = {"common": 0.05, "mid": 0.005, "low": 0.0005, "rare": 0.00003}


class Times(msgspec.Struct):
    """Milliseconds of one query."""

    first: list[float] = []
    deep: list[float] = []
    plain: float | None = None  #: None: not within its time


def main() -> None:
    """Make what is missing, measure, and print."""
    options = _options()
    for name, opened in _ledgers(options):
        with opened() as ledger:
            words = _words(ledger)
            found = {query.name: measure(ledger, query, words, options) for query in QUERIES}
            _print(name, options.images, found)


def measure(ledger: Ledger, query: Query, words: dict[str, str], options: Any) -> Times:
    """All pages of one query, and plain SQL once."""
    ask = Ask(query=query.text.format_map(words))
    sort = sort_of(query.sort)
    times = Times()

    def page(after: str | None) -> tuple[float, str | None]:
        started = time.perf_counter()
        found = find(ledger, ask, sort=sort, limit=PAGE, after=after)
        return (time.perf_counter() - started) * 1e3, found.next

    page(None)  # connects, and reads what the machine had to forget for the build
    times.first = [page(None)[0] for _ in range(options.rounds)]
    cursor = page(None)[1]
    for _ in range(options.deep):
        if cursor is None:
            break
        took, cursor = page(cursor)
        times.deep.append(took)
    times.plain = _plain(ledger, query, words, options.plain_seconds)
    return times


def _plain(ledger: Ledger, query: Query, words: dict[str, str], seconds: float) -> float | None:
    """The first page by hand-written SQL on the table of images."""
    postgres = ledger.engine.dialect.name == "postgresql"
    conditions = query.plain
    for name, word in _patterns(words).items():
        like = "ILIKE" if postgres else "LIKE"
        conditions = conditions.replace(f"{{like:{name}}}", f"i.prompt {like} '%{word}%'")
    column = {"created": "created_at"}.get(query.sort.lstrip("-"), query.sort.lstrip("-"))
    down = "DESC" if query.sort.startswith("-") else "ASC"
    statement = (
        f"SELECT i.* FROM images i WHERE {conditions}"
        f" AND i.{column} IS NOT NULL ORDER BY i.{column} {down} LIMIT {PAGE}"
    )
    try:
        with ledger.read() as connection, bounded(connection, seconds):
            if postgres:
                connection.exec_driver_sql("SET LOCAL enable_seqscan = on")
            started = time.perf_counter()
            connection.exec_driver_sql(
                statement.replace("%", "%%") if postgres else statement
            ).all()
            return (time.perf_counter() - started) * 1e3
    except SearchTimeout:
        return None


def _patterns(words: dict[str, str]) -> dict[str, str]:
    parts = {"fox": "fox", "qui": "qui", "paint": "paint"}
    return words | parts | {"phrase": f"{words['first']} {words['common']}"}


def _words(ledger: Ledger) -> dict[str, str]:
    """Words of the frequencies the queries name; the same for the same rows."""
    with ledger.read() as connection:
        total = connection.execute(sa.select(sa.func.max(search.c.n))).scalar_one()
        rows = connection.execute(
            sa.select(search_words.c.value, search_words.c.images)
            .where(search_words.c.field == "prompt")
            .order_by(search_words.c.images.desc(), search_words.c.value)
        ).all()
    found = {
        name: min(rows, key=lambda row: (abs(row.images - share * total), row.value)).value
        for name, share in SHARES.items()
    }
    return found | {"first": rows[0].value}


def _print(name: str, images: int, found: dict[str, Times]) -> None:
    print(f"\n**{name}, {images:,} images**, load average {os.getloadavg()[0]:.1f}; ms\n")
    print("| query | first page p50 | p95 | deep pages p50 | p95 | plain SQL |")
    print("| --- | --- | --- | --- | --- | --- |")
    for query, times in found.items():
        plain = "given up" if times.plain is None else f"{times.plain:,.0f}"
        print(
            f"| {query} | {_cell(times.first, 50)} | {_cell(times.first, 95)}"
            f" | {_cell(times.deep, 50)} | {_cell(times.deep, 95)} | {plain} |"
        )
    every = [one for times in found.values() for one in times.first]
    deep = [one for times in found.values() for one in times.deep]
    print(
        f"| **all** | {_cell(every, 50)} | {_cell(every, 95)}"
        f" | {_cell(deep, 50)} | {_cell(deep, 95)} | |",
        flush=True,
    )


def _cell(times: list[float], share: int) -> str:
    if not times:
        return ""
    if len(times) == 1:
        return f"{times[0]:.1f}"
    return f"{statistics.quantiles(times, n=100, method='inclusive')[share - 1]:.1f}"


Opened = Callable[[], Any]


def _ledgers(options: Any) -> Iterator[tuple[str, Opened]]:
    if options.postgres:
        yield "PostgreSQL", lambda: _on_a_server(options)
    if options.sqlite:
        yield "SQLite", lambda: _in_a_file(options)


@contextmanager
def _in_a_file(options: Any) -> Iterator[Ledger]:
    there = options.sqlite.exists()
    ledger = open_sqlite(options.sqlite)
    try:
        if not there:
            _fill(ledger, options)
        yield ledger
    finally:
        ledger.close()
        if not options.keep:
            for end in ("", "-wal", "-shm"):
                Path(f"{options.sqlite}{end}").unlink(missing_ok=True)


@contextmanager
def _on_a_server(options: Any) -> Iterator[Ledger]:
    server = sa.create_engine(options.postgres, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    name = f"rendermill_catalog_{options.images}"
    with server.connect() as connection:
        there = connection.execute(
            sa.text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": name}
        ).first()
        if not there:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
    ledger = open_postgres(
        sa.make_url(options.postgres).set(database=name).render_as_string(hide_password=False)
    )
    try:
        if not there:
            _fill(ledger, options)
        yield ledger
    finally:
        ledger.close()
        if not options.keep:
            with server.connect() as connection:
                connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


def _fill(ledger: Ledger, options: Any) -> None:
    ensure_schema(ledger)
    maker = Maker(words_in(options.prompts), options.seed)
    Loader(ledger).load(maker.rows(options.images), count=options.images)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--postgres", default=None)
    parser.add_argument("--sqlite", type=Path, default=None)
    parser.add_argument("--prompts", type=Path, default=None)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--deep", type=int, default=40)
    parser.add_argument("--plain-seconds", type=float, default=5.0)
    parser.add_argument("--keep", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
