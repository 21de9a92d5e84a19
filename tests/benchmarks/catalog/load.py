"""Filling a ledger's catalog in bulk: rows first, indexes after, without what safety costs.

Rows and terms are those the recorder and the indexer write; only the way in is shorter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, DropIndex

from storage.db.bulk import insert_rows
from storage.db.images import ImageRow
from storage.db.ledger import Ledger
from storage.db.search_index import ALL
from storage.db.search_terms import (
    Names,
    Term,
    as_text,
    as_vector,
    settled_facts,
    spread_facts,
    texts_of,
)
from storage.db.tables import image_tags, images, search, search_words
from storage.testing.factories import add_groups, add_worker
from tests.benchmarks.catalog.generate import IMAGES_PER_ROW, ROWS_PER_JOB, Made

CHUNK: Final = 20_000
WORKERS: Final = 16
_SEARCH: Final = tuple(column.name for column in search.c)
_WAITS: Final = ("ix_search_terms", "ix_search_seed", "ix_search_seconds", "ix_search_bytes",
                 "ix_search_image", "ix_images_created_at", "ix_images_seed", "ix_images_model",
                 "ix_images_failed")  # fmt: skip


class _Written(msgspec.Struct):
    images: list[tuple[Any, ...]] = []
    search: list[tuple[Any, ...]] = []
    tags: list[tuple[Any, ...]] = []


class Loader:
    """Writes made rows into an empty ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._vector = ledger.engine.dialect.name == "postgresql"
        self._ids: dict[Term, int] = {}
        self._counts: Counter[int] = Counter()
        self._n = 0
        self._cache: dict[tuple[Any, ...], list[int]] = {}
        self._names = Names(jobs={}, workers={})

    def load(self, made: Iterator[Made], *, count: int) -> None:
        """Write all of it; `count` images in whole jobs."""
        self._prepare(count)
        waiting = _Written()
        for row in made:
            self._add(row, waiting)
            if len(waiting.images) >= CHUNK:
                self._write(waiting)
                waiting = _Written()
        self._write(waiting)
        self._write_words()
        self._finish()

    def _prepare(self, count: int) -> None:
        names = {add_worker(self._ledger, pid=pid): f"worker-{pid}" for pid in range(WORKERS)}
        jobs = -(-count // (IMAGES_PER_ROW * ROWS_PER_JOB))
        for number in range(1, jobs + 1):
            add_groups(self._ledger, (IMAGES_PER_ROW * ROWS_PER_JOB, 4), name=f"job-{number}")
            self._names.jobs[number] = f"job-{number}"
        self._names.workers.update(names)
        with self._ledger.write() as connection:
            for index in self._indexes():
                connection.execute(DropIndex(index))
            if self._vector:
                for table in ("search", "search_words", "images_1_0", "image_tags"):
                    connection.exec_driver_sql(f"ALTER TABLE {table} SET UNLOGGED")
        if not self._vector:
            with self._ledger.engine.connect() as connection:
                connection.exec_driver_sql("COMMIT")
                connection.exec_driver_sql("PRAGMA synchronous=OFF")
                connection.exec_driver_sql("BEGIN")

    def _add(self, row: Made, into: _Written) -> None:
        prompt, negative = texts_of(row.images[0])
        words = [self._id(term) for term in prompt + negative]
        for word in set(words):
            self._counts[word] += len(row.images)
        tags = msgspec.json.decode(row.images[0].tags)
        small = row.images[0].prompt.casefold()
        for image in row.images:
            self._n += 1
            facts = self._settled(image) + [self._id(term) for term in spread_facts(image)]
            for fact in facts:
                self._counts[fact] += 1
            terms = as_vector(self._n, words, facts) if self._vector else as_text(words, facts)
            into.images.append(msgspec.structs.astuple(image))
            into.search.append((
                self._n, image.job_id, image.item, image.created_at, image.seed, image.row,
                image.line, image.image_no, image.truncated_tokens, image.seconds, image.bytes,
                image.marked_at, small, terms,
            ))  # fmt: skip
            for key, value in tags.items():
                into.tags.append((key, value, image.job_id, image.item))

    def _settled(self, image: ImageRow) -> list[int]:
        key = (image.job_id, image.outcome, image.reason, image.worker_id, image.rendering,
               image.tags, image.width, image.num_inference_steps, image.guidance_scale,
               image.height)  # fmt: skip
        found = self._cache.get(key)
        if found is None:
            found = [self._id(term) for term in settled_facts(image, self._names)]
            self._cache[key] = found
        return found

    def _id(self, term: Term) -> int:
        found = self._ids.get(term)
        if found is None:
            found = self._ids[term] = len(self._ids) + 1
        return found

    def _write(self, rows: _Written) -> None:
        with self._ledger.write() as connection:
            insert_rows(connection, images, ImageRow.__struct_fields__, rows.images)
            insert_rows(connection, search, _SEARCH, rows.search)
            tags = sorted(rows.tags)
            insert_rows(connection, image_tags, ("key", "value", "job_id", "item"), tags)

    def _write_words(self) -> None:
        self._counts[self._id((*ALL, None))] = self._n
        words = [(number, *term, self._counts[number]) for term, number in self._ids.items()]
        with self._ledger.write() as connection:
            columns = ("id", "field", "value", "number", "images")
            insert_rows(connection, search_words, columns, words)
            if self._vector:
                connection.exec_driver_sql(
                    "SELECT setval(pg_get_serial_sequence('search_words', 'id'), max(id))"
                    " FROM search_words"
                )

    def _finish(self) -> None:
        with self._ledger.write() as connection:
            if self._vector:
                connection.exec_driver_sql("SET LOCAL maintenance_work_mem = '1500MB'")
            else:
                connection.exec_driver_sql(
                    "INSERT INTO search_fts (search_fts, rank) VALUES ('hashsize', 268435456)"
                )
                for table in ("search_fts", "search_spellings"):
                    connection.exec_driver_sql(f"INSERT INTO {table} ({table}) VALUES ('rebuild')")
            for index in self._indexes():
                connection.execute(CreateIndex(index))
        with self._ledger.engine.connect().execution_options(
            isolation_level="AUTOCOMMIT"
        ) as connection:
            if self._vector:
                connection.exec_driver_sql("COMMIT")
                connection.exec_driver_sql("VACUUM ANALYZE")

    def _indexes(self) -> list[sa.Index]:
        named = (one for table in (search, images) for one in table.indexes if one.name in _WAITS)
        found = sorted(named, key=lambda one: str(one.name))
        return [one for one in found if self._vector or one.name != "ix_search_terms"]
