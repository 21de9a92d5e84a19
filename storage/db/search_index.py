"""Filling the search tables behind the recording of images.

Whoever records or removes images notes the range of items in the same transaction: one small
row, however many images. The indexer takes such ranges, compares the images in them with what
is indexed, and mends the difference. So it may be killed at any instant, and run twice.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

from storage.db import search_keys
from storage.db.bulk import insert_rows
from storage.db.images import ImageRow
from storage.db.ledger import Ledger
from storage.db.rows import batched, columns_of
from storage.db.search_notes import waiting
from storage.db.search_terms import Names, Term, as_text, as_vector, facts_of, texts_of
from storage.db.tables import images, jobs, search, search_queue, search_words, workers
from storage.db.tables import search_keys as keys

ITEMS_PER_STEP: Final = 5_000
KNOWN_TERMS: Final = 300_000
ALL: Final = ("*", "*")
"""Field and value of the word that counts all images."""

_LOCK: Final = 0x52454E44494E4458
_COLUMNS: Final = tuple(column.name for column in search.c)
_IMAGE: Final = columns_of(ImageRow, images)
_KEYED: Final = keys.c.n.label("keyed")


class Indexer:
    """Takes what is noted, step by step; remembers the numbers of terms between steps."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._ids: dict[tuple[str, str], int] = {}

    def catch_up(self, seconds: float) -> int:
        """Index for about that long; how many images were looked at."""
        until = time.monotonic() + seconds
        looked = 0
        while time.monotonic() < until:
            with self._ledger.read() as connection:
                if not waiting(connection):
                    break
            try:
                with self._ledger.write() as connection:
                    if not _leads(connection):
                        break
                    looked += self.step(connection)
            except BaseException:
                self._ids.clear()  # some may have been given in what is undone now
                raise
        return looked

    def step(self, connection: Connection) -> int:
        """Take one note, or the first items of a large one."""
        note = connection.execute(
            sa.select(search_queue).order_by(search_queue.c.id).limit(1)
        ).first()
        if note is None:
            return 0
        stop = self._take(connection, note)
        rows = [
            ImageRow(*row)
            for row in connection.execute(
                sa.select(*_IMAGE).where(
                    images.c.job_id == note.job_id,
                    images.c.item >= note.first_item,
                    images.c.item < stop,
                )
            )
        ]
        self._mend(connection, note.job_id, note.first_item, stop, rows)
        return len(rows)

    def _take(self, connection: Connection, note: sa.Row[Any]) -> int:
        """Shorten the note by a step's items, or remove it; the end of those items."""
        found = connection.execute(
            sa.select(images.c.item)
            .where(
                images.c.job_id == note.job_id,
                images.c.item >= note.first_item,
                images.c.item < note.stop_item,
            )
            .order_by(images.c.item)
            .offset(ITEMS_PER_STEP)
            .limit(1)
        ).scalar()
        own = search_queue.c.id == note.id
        if found is None:
            connection.execute(sa.delete(search_queue).where(own))
            return int(note.stop_item)
        connection.execute(sa.update(search_queue).where(own).values(first_item=found))
        return int(found)

    def _mend(
        self, connection: Connection, job_id: int, first: int, stop: int, rows: list[ImageRow]
    ) -> None:
        """Make the index of a range of items say what the images say."""
        there = {
            row.item: row
            for row in connection.execute(
                sa.select(
                    search.c.n,
                    search.c.item,
                    search.c.created_at,
                    search.c.marked_at,
                    search.c.terms,
                    _KEYED,
                )
                .select_from(search.outerjoin(keys, keys.c.n == search.c.n))
                .where(search.c.job_id == job_id, search.c.item >= first, search.c.item < stop)
            )
        }
        right = {
            row.item for row in rows if row.item in there and _is_as_indexed(row, there[row.item])
        }
        bare = [
            (there[row.item].n, row)
            for row in rows
            if row.item in right and there[row.item].keyed is None
        ]
        search_keys.add(connection, bare)  # indexed before there were keys
        wrong = [row for item, row in there.items() if item not in right]
        if wrong:
            _remove(connection, wrong)
        new = [row for row in rows if row.item not in right]
        if new:
            marked = {
                row.item: there[row.item].n
                for row in new
                if row.item in there and there[row.item].created_at == row.created_at
            }
            self.add(connection, [row for row in new if row.item not in marked])
            self.add(connection, [row for row in new if row.item in marked], marked)

    def add(
        self,
        connection: Connection,
        rows: Sequence[ImageRow],
        numbers: Mapping[int, int] | None = None,
    ) -> None:
        """Index images that are not indexed yet.

        `numbers`, by item, are for images of one job that were only marked: they keep their place.
        """
        if not rows:
            return
        names = _names(connection, rows)
        ordered = sorted(rows, key=lambda row: (row.created_at, row.job_id, row.item))
        termed = [(row, texts_of(row), facts_of(row, names)) for row in ordered]
        counts: Counter[Term] = Counter()
        for _, (prompt, negative), facts in termed:
            counts.update(facts)
            counts.update(set(prompt))
            counts.update(set(negative))
        self._learn(connection, counts)
        counts[(*ALL, None)] = len(rows)
        self._learn(connection, [(*ALL, None)])
        ids = self._ids
        count(connection, {ids[term[:2]]: images for term, images in counts.items()})
        first = _next_number(connection)
        vector = connection.dialect.name == "postgresql"
        written = []
        keyed = []
        for new, (row, (prompt, negative), facts) in enumerate(termed, first):
            n = numbers[row.item] if numbers else new
            words = [ids[term[:2]] for term in prompt + negative]
            others = [ids[term[:2]] for term in facts]
            terms = as_vector(n, words, others) if vector else as_text(words, others)
            written.append(_search_row(n, row, terms))
            keyed.append((n, row))
        insert_rows(connection, search, _COLUMNS, written)
        search_keys.add(connection, keyed)
        if not vector:
            connection.exec_driver_sql(
                "INSERT INTO search_fts (rowid, terms) VALUES (?, ?)",
                [(row[0], row[-1]) for row in written],
            )

    def _learn(self, connection: Connection, terms: Iterable[Term]) -> None:
        """Know the numbers of all these terms; new ones get one."""
        if len(self._ids) > KNOWN_TERMS:
            self._ids.clear()
        unknown = [term for term in terms if term[:2] not in self._ids]
        for some in batched(unknown, 2_000):
            self._look_up(connection, some)
            new = sorted(term for term in some if term[:2] not in self._ids)
            if new:
                insert_rows(connection, search_words, ("field", "value", "number"), new)
                self._look_up(connection, new)
                _spell(connection, [(self._ids[term[:2]], term[1]) for term in new if not term[2]])

    def _look_up(self, connection: Connection, terms: Sequence[Term]) -> None:
        words = search_words.c
        by_field: dict[str, list[str]] = {}
        for field, value, _ in terms:
            by_field.setdefault(field, []).append(value)
        for field, values in by_field.items():
            if connection.dialect.name == "postgresql":
                among = words.value == sa.any_(sa.literal(values, postgresql.ARRAY(sa.Text)))
            else:
                among = words.value.in_(values)
            found = connection.execute(
                sa.select(words.value, words.id).where(words.field == field, among)
            )
            self._ids.update({(field, row.value): row.id for row in found})


def forget_all(connection: Connection) -> None:
    """Empty the index and note all images, to be indexed again with today's fields.

    Words keep their numbers: other processes remember them.
    """
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("INSERT INTO search_fts (search_fts) VALUES ('delete-all')")
    search_keys.forget_all(connection)
    for emptied in (search, search_queue):
        connection.execute(sa.delete(emptied))
    connection.execute(sa.update(search_words).values(images=0))
    by_job = sa.select(images.c.job_id, sa.func.min(images.c.item), sa.func.max(images.c.item) + 1)
    connection.execute(
        sa.insert(search_queue).from_select(
            ["job_id", "first_item", "stop_item"],
            by_job.group_by(images.c.job_id).order_by(images.c.job_id),
        )
    )


def count(connection: Connection, images_by_word: dict[int, int]) -> None:
    """Add to the number of images that have each of these words."""
    if not images_by_word:
        return
    ids = sorted(images_by_word)
    added = [images_by_word[one] for one in ids]
    if connection.dialect.name == "postgresql":
        many = postgresql.ARRAY(sa.BigInteger)
        given = sa.select(
            sa.func.unnest(sa.literal(ids, many)).label("id"),
            sa.func.unnest(sa.literal(added, many)).label("added"),
        ).subquery()
        connection.execute(
            sa.update(search_words)
            .where(search_words.c.id == given.c.id)
            .values(images=search_words.c.images + given.c.added)
        )
        return
    connection.exec_driver_sql(
        "UPDATE search_words SET images = images + ? WHERE id = ?",
        list(zip(added, ids, strict=True)),
    )


def _remove(connection: Connection, rows: Sequence[Any]) -> None:
    counts: Counter[int] = Counter()
    for row in rows:
        counts.update(set(_ids_in(row.terms)))
    total = connection.execute(
        sa.select(search_words.c.id).where(
            search_words.c.field == ALL[0], search_words.c.value == ALL[1]
        )
    ).scalar_one()
    counts[total] = len(rows)
    count(connection, {word: -images for word, images in counts.items()})
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(
            "INSERT INTO search_fts (search_fts, rowid, terms) VALUES ('delete', ?, ?)",
            [(row.n, row.terms) for row in rows],
        )
    search_keys.remove(connection, [row.n for row in rows])
    for some in batched(rows, 500):
        numbers = [row.n for row in some]
        connection.execute(sa.delete(search).where(search.c.n.in_(numbers)))


def _ids_in(terms: str) -> Iterator[int]:
    """The numbers of words in what a row keeps: those of blocks begin with a letter."""
    for part in terms.split():
        word = part.partition(":")[0].strip("'")
        if word.isdigit():
            yield int(word)


def _is_as_indexed(row: ImageRow, indexed: Any) -> bool:
    """Whether neither the image is another one since, nor its marks."""
    return bool(indexed.created_at == row.created_at and indexed.marked_at == row.marked_at)


def _search_row(n: int, row: ImageRow, terms: str) -> tuple[Any, ...]:
    values: dict[str, Any] = {"n": n, "terms": terms, "prompt": row.prompt.casefold()}
    return tuple(values[name] if name in values else getattr(row, name) for name in _COLUMNS)


def _names(connection: Connection, rows: Sequence[ImageRow]) -> Names:
    def names(table: sa.Table, ids: set[int]) -> dict[int, str]:
        found = connection.execute(
            sa.select(table.c.id, table.c.name).where(table.c.id.in_(sorted(ids)))
        )
        return {row[0]: row[1] for row in found}

    return Names(
        jobs=names(jobs, {row.job_id for row in rows}),
        workers=names(workers, {row.worker_id for row in rows}),
    )


def _next_number(connection: Connection) -> int:
    return (connection.execute(sa.select(sa.func.max(search.c.n))).scalar() or 0) + 1


def _leads(connection: Connection) -> bool:
    """Numbers are given by one indexer at a time; on SQLite a writer is alone anyway."""
    if connection.dialect.name != "postgresql":
        return True
    return bool(
        connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(_LOCK))).scalar_one()
    )


def _spell(connection: Connection, new: Sequence[tuple[int, str]]) -> None:
    if connection.dialect.name == "sqlite" and new:
        connection.exec_driver_sql(
            "INSERT INTO search_spellings (rowid, value) VALUES (?, ?)", list(new)
        )
