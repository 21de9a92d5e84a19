"""Comparing rows with their objects: many sizes by one listing, single ones side by side."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from itertools import islice
from typing import Final

from PIL import Image

from scheduler.service.checking.findings import Finding, Kind
from scheduler.service.checking.pace import Pace
from storage.contract.errors import ObjectMissing, StoreUnavailable
from storage.db import checks
from storage.db.checks import Kept
from storage.db.engine import Ledger
from storage.ports import ObjectStore

WORTH_LISTING: Final = 20
"""Objects of one folder from which on a listing costs less than asking for each."""

_LISTED_AT_MOST: Final = 20_000


class Looker:
    """Finds what is wrong with the objects of rows."""

    def __init__(
        self, ledger: Ledger, store: ObjectStore, pool: Executor, pace: Pace, *, deep: bool
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._pool = pool
        self._pace = pace
        self._deep = deep

    def compare(self, job: str, rows: Sequence[Kept]) -> list[Finding]:
        """What is wrong with the objects of these rows of one job."""
        rendered = [row for row in rows if row.is_kept]
        self._pace.take(len(rendered))
        sizes = self._sizes(_keys_of(rendered))
        doubtful = [row for row in rendered if any(_compared(job, row, sizes))]
        found = self._confirmed(job, doubtful)
        if self._deep:
            bad = {one.item for one in found}
            found += self._read(job, [row for row in rendered if row.item not in bad])
        return found

    def _confirmed(self, job: str, doubtful: Sequence[Kept]) -> list[Finding]:
        """Look again: rows may have gone or been rendered anew since they were read."""
        if not doubtful:
            return []
        now = self._still(doubtful)
        sizes = dict(self._asked(_keys_of(now)))
        return [finding for row in now for finding in _compared(job, row, sizes)]

    def _still(self, rows: Sequence[Kept]) -> list[Kept]:
        with self._ledger.read() as connection:
            items = [row.item for row in rows]
            there = set(checks.kept_of(connection, rows[0].job_id, items))
        return [row for row in rows if row in there]

    def _sizes(self, keys: Sequence[str]) -> dict[str, int | None]:
        """The size of each object; None: it is not there."""
        by_folder: dict[str, list[str]] = {}
        for key in keys:
            by_folder.setdefault(key.rpartition("/")[0] + "/", []).append(key)
        sizes: dict[str, int | None] = {}
        single: list[str] = []
        for folder, its_keys in by_folder.items():
            listed = self._listed(folder) if len(its_keys) >= WORTH_LISTING else None
            if listed is None:
                single += its_keys
            else:
                sizes.update((key, listed.get(key)) for key in its_keys)
        sizes.update(self._asked(single))
        return sizes

    def _listed(self, folder: str) -> dict[str, int] | None:
        """The sizes of a folder's objects; None if it has too many to hold."""
        listed = dict(islice(self._store.listed(folder), _LISTED_AT_MOST + 1))
        return listed if len(listed) <= _LISTED_AT_MOST else None

    def _asked(self, keys: Sequence[str]) -> Iterator[tuple[str, int | None]]:
        return zip(keys, self._pool.map(self._store.size, keys), strict=True)

    def _read(self, job: str, rows: Sequence[Kept]) -> list[Finding]:
        """Read every picture and thumbnail."""

        def look(row: Kept) -> list[Finding]:
            return list(self._contents(job, row))

        found = [finding for many in self._pool.map(look, rows) for finding in many]
        if not found:
            return []
        bad = {finding.item for finding in found}
        still = {row.item for row in self._still([row for row in rows if row.item in bad])}
        return [finding for finding in found if finding.item in still]

    def _contents(self, job: str, row: Kept) -> Iterator[Finding]:
        if row.object_key is not None and row.sha256 is not None:
            wrong = self._fault_in(row.object_key, lambda data: _other(data, row.sha256))
            if wrong is not None:
                yield finding_of(Kind.SWAPPED, job, row, row.object_key, wrong)
        if row.thumbnail_key is not None:
            wrong = self._fault_in(row.thumbnail_key, _undecodable)
            if wrong is not None:
                yield finding_of(Kind.THUMBNAIL_DAMAGED, job, row, row.thumbnail_key, wrong)

    def _fault_in(self, key: str, judge: Callable[[bytes], str | None]) -> str | None:
        try:
            return judge(self._store.get(key))
        except ObjectMissing:
            return "it went while it was looked at"
        except StoreUnavailable as error:
            self._store.size(key)  # raises if the store as a whole cannot be reached
            return error.message


def finding_of(kind: Kind, job: str, row: Kept, key: str, detail: str) -> Finding:
    """A finding about an object of a row."""
    return Finding(
        kind=kind,
        job=job,
        job_id=row.job_id,
        item=row.item,
        key=key,
        detail=detail,
        sha256=row.sha256,
        linked=None if row.linked_job is None else (row.linked_job, row.linked_item or 0),
    )


def _keys_of(rows: Iterable[Kept]) -> list[str]:
    named = (key for row in rows for key in (row.object_key, row.thumbnail_key))
    return list(dict.fromkeys(key for key in named if key is not None))


def _compared(job: str, row: Kept, sizes: dict[str, int | None]) -> Iterator[Finding]:
    """What sizes alone tell."""
    if row.object_key is not None:
        size = sizes[row.object_key]
        if size is None:
            yield finding_of(Kind.MISSING, job, row, row.object_key, "")
        elif row.bytes is not None and size != row.bytes:
            said = f"{size:,} bytes, not {row.bytes:,}"
            yield finding_of(Kind.TRUNCATED, job, row, row.object_key, said)
    if row.thumbnail_key is not None:
        size = sizes[row.thumbnail_key]
        if size is None:
            yield finding_of(Kind.THUMBNAIL_MISSING, job, row, row.thumbnail_key, "")
        elif size == 0:
            yield finding_of(Kind.THUMBNAIL_DAMAGED, job, row, row.thumbnail_key, "it is empty")


def _other(data: bytes, sha256: str | None) -> str | None:
    return None if hashlib.sha256(data).hexdigest() == sha256 else "its SHA-256 differs"


def _undecodable(data: bytes) -> str | None:
    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
    except Exception as error:  # decoders raise anything for damaged files
        return f"it cannot be decoded: {error}"
    return None
