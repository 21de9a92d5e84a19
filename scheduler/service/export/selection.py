"""Which images an export takes, fixed before the first is written.

The catalog is asked page by page for what matches, up to the image that came in last when the
export began; the keys are put in order on disk, and laid out in shards. That plan lies at the
target, so that an export that was killed goes on with the very same set, whatever was rendered
or found since. Memory holds a page and the lists of the shards being filled.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec
import sqlalchemy as sa

from scheduler.service.export.names import folded, name_by, numbered
from scheduler.service.export.options import ExportOptions, Form, ShardSize, split_of
from scheduler.service.export.samples import Key
from scheduler.service.export.target import WORK, Target
from scheduler.service.finding import Ask, tree_of
from storage.contract.keys import image_id
from storage.contract.search import Tree
from storage.db import images, search
from storage.db.engine import Ledger
from storage.db.images import ImageRow
from storage.db.search import Place, Sort
from storage.db.search_sql import bounded
from storage.db.tables import search as search_table

PAGE: Final = 1_000
ROWS: Final = 500

USUAL_SHARD: Final = {
    Form.FILES: ShardSize(images=1_000),
    Form.WEBDATASET: ShardSize(images=1_000, bytes=512_000_000),
    Form.PARQUET: ShardSize(images=1_000, bytes=512_000_000),
    Form.HF: ShardSize(images=1_000),
    Form.DIFFUSIONDB: ShardSize(images=1_000),
    Form.JSONL: ShardSize(images=1_000_000),
    Form.CSV: ShardSize(images=1_000_000),
}
ROWS_ONLY: Final = (Form.JSONL, Form.CSV)
"""Forms without pictures: they also take images that have none, such as failed ones."""

Entry = tuple[Key, str]
"""Key and name of an image; the name only where a template makes one."""

_PLAN: Final = f"{WORK}/plan"


class Shard(msgspec.Struct, frozen=True):
    """A part of an export that is written, and repeated, as a whole."""

    split: str
    number: int  #: within its split, from 0
    first: int  #: images of the split before it
    images: int

    @property
    def plan(self) -> str:
        """Where the list of its images lies."""
        return f"{_PLAN}/{self.split}-{self.number:05d}.jsonl"

    @property
    def done(self) -> str:
        """Where it is recorded once it is written."""
        return f"{WORK}/done/{self.split}-{self.number:05d}.jsonl"


class Start(msgspec.Struct, frozen=True):
    """The moment a selection is made for: what came into the catalog later is not in it."""

    last: int  #: catalog number of the image that came in last
    now: float  #: what ``-7d`` is counted from


def start_now(ledger: Ledger) -> Start:
    """A selection of what the catalog holds now."""
    with ledger.read() as connection:
        last = connection.execute(sa.select(sa.func.max(search_table.c.n))).scalar()
    return Start(int(last or 0), ledger.now())


def check_query(ledger: Ledger, options: ExportOptions) -> None:
    """`QueryError` for a query that cannot be understood."""
    with ledger.read() as connection:
        tree_of(connection, Ask(query=options.query, job=options.job), now=ledger.now())


def make_plan(
    ledger: Ledger,
    target: Target,
    options: ExportOptions,
    start: Start,
    found: Callable[[int], None],
) -> list[Shard]:
    """Lay the images out in shards and write their lists; `found` hears how many so far."""
    with (
        tempfile.TemporaryDirectory(prefix="rendermill-") as folder,
        closing(sqlite3.connect(Path(folder) / "plan.db", isolation_level=None)) as disk,
    ):
        disk.execute("PRAGMA synchronous=OFF")
        disk.execute("PRAGMA journal_mode=OFF")
        disk.execute("CREATE TABLE keys (job, item, PRIMARY KEY (job, item)) WITHOUT ROWID")
        disk.execute("CREATE TABLE names (name PRIMARY KEY, next) WITHOUT ROWID")
        count = 0
        for page in matches(ledger, Ask(query=options.query, job=options.job), start):
            disk.executemany("INSERT OR IGNORE INTO keys VALUES (?, ?)", page)
            count += len(page)
            found(count)
        return _lay_out(ledger, target, options, disk)


def matches(ledger: Ledger, ask: Ask, start: Start) -> Iterator[list[Key]]:
    """Keys of what matches, page by page, in the order they came into the catalog."""
    sort = Sort("created", descending=False)
    tree: Tree | None = None
    after: Place | None = None
    while True:
        with ledger.read() as connection, bounded(connection):
            tree = tree or tree_of(connection, ask, now=start.now)
            hits = search.page(connection, tree, sort=sort, limit=PAGE, after=after)
        within = [(hit.job_id, hit.item) for hit in hits if hit.place.n <= start.last]
        if within:
            yield within
        if len(hits) < PAGE or len(within) < len(hits):
            return
        after = hits[-1].place


def entries_of(target: Target, shard: Shard) -> Iterator[Entry]:
    """The list of a shard's images."""
    lines = target.read(shard.plan) or b""
    for line in lines.splitlines():
        job_id, item, name = msgspec.json.decode(line, type=tuple[int, int, str])
        yield (job_id, item), name


class _Layout:
    """Fills the shards of every split."""

    def __init__(self, target: Target, size: ShardSize) -> None:
        self._target = target
        self._size = size
        self._filling: dict[str, _Filling] = {}
        self.shards: list[Shard] = []

    def add(self, split: str, key: Key, name: str, size: int) -> None:
        """One more image; its shard is closed first if it is full."""
        filling = self._filling.setdefault(split, _Filling())
        many = self._size.images is not None and filling.images >= self._size.images
        large = self._size.bytes is not None and filling.bytes + size > self._size.bytes
        if filling.images and (many or large):
            self._close(split, filling)
        filling.lines += msgspec.json.encode((*key, name)) + b"\n"
        filling.images += 1
        filling.bytes += size

    def end(self) -> list[Shard]:
        """Close what is open; all shards in order."""
        for split, filling in self._filling.items():
            if filling.images:
                self._close(split, filling)
        return sorted(self.shards, key=lambda one: (one.split, one.number))

    def _close(self, split: str, filling: _Filling) -> None:
        shard = Shard(split, filling.number, filling.first, filling.images)
        self._target.put(shard.plan, bytes(filling.lines))
        self.shards.append(shard)
        filling.lines = bytearray()
        filling.number += 1
        filling.first += filling.images
        filling.images = filling.bytes = 0


class _Filling(msgspec.Struct):
    lines: bytearray = msgspec.field(default_factory=bytearray)
    number: int = 0
    first: int = 0
    images: int = 0
    bytes: int = 0


def _lay_out(
    ledger: Ledger, target: Target, options: ExportOptions, disk: sqlite3.Connection
) -> list[Shard]:
    usual = USUAL_SHARD[options.format]
    asked = options.shard if options.shard != ShardSize() else usual
    layout = _Layout(target, asked)
    ordered = disk.execute("SELECT job, item FROM keys ORDER BY job, item")
    while keys := ordered.fetchmany(ROWS):
        with ledger.read() as connection:
            rows = images.of_keys(connection, keys)
        for key in keys:
            if key not in rows:
                continue
            job, row = rows[key]
            if row.object_key is None and options.format not in ROWS_ONLY:
                continue
            split = split_of(
                row.render_key or row.sha256 or image_id(job, row.item), options.splits
            )
            name = _name(options, job, row, split, disk) if options.format is Form.FILES else ""
            layout.add(split, key, name, row.bytes or 0)
    return layout.end()


def _name(
    options: ExportOptions, job: str, row: ImageRow, split: str, disk: sqlite3.Connection
) -> str:
    """The name the template gives; the second of a name gets a 2."""
    tags: dict[str, str] = msgspec.json.decode(row.tags)

    def value(field: str) -> object:
        if field.startswith("tag."):
            return tags.get(field.removeprefix("tag."), "")
        return {"job": job, "split": split}.get(field) or getattr(row, field, "")

    extension = (row.object_key or "").rpartition(".")[2].lower()
    name = name_by(options.name_template, value, extension if extension.isalnum() else "png")
    if len(options.splits) > 1:
        name = f"{split}/{name}"
    free, number = name, 1
    while True:
        key = folded(free)
        taken = disk.execute("INSERT OR IGNORE INTO names VALUES (?, 2)", (key,)).rowcount == 0
        if not taken:
            return free
        first = folded(name)
        number = disk.execute("SELECT next FROM names WHERE name = ?", (first,)).fetchone()[0]
        disk.execute("UPDATE names SET next = ? WHERE name = ?", (number + 1, first))
        free = numbered(name, number)
