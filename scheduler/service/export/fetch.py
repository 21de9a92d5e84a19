"""Plain copies of pictures, several at once, each held against the catalog's checksum."""

from __future__ import annotations

import hashlib
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from scheduler.service.export.forms import Lost
from scheduler.service.export.run import Progress
from scheduler.service.export.samples import READERS
from scheduler.service.export.selection import matches, start_now
from scheduler.service.finding import Ask
from storage.contract.errors import InputError, ObjectMissing
from storage.contract.keys import image_id
from storage.db import images
from storage.db.images import ImageRow
from storage.opening import Mill

AHEAD: Final = 4
"""Copies waiting for each that is being made."""


class FetchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to copy."""

    query: str
    job: str | None = None
    thumbnails: bool = False
    parallel: int = READERS


class Fetched(msgspec.Struct, kw_only=True):
    """What was copied."""

    copied: int = 0
    there: int = 0  #: copied before, and still right
    bytes: int = 0  #: of what was copied now
    lost: list[Lost] = []


def fetch(
    mill: Mill,
    folder: Path,
    options: FetchOptions,
    *,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Fetched:
    """Copy what matches to ``FOLDER/JOB/000000012.png``; a copy that is right is left alone.

    A thumbnail has no checksum in the catalog: one that is there and not empty is right.
    """
    done = Fetched()
    waiting: deque[tuple[str, Future[int | None]]] = deque()

    def take() -> None:
        name, copy = waiting.popleft()
        try:
            copied = copy.result()
        except (ObjectMissing, _Damaged) as error:
            done.lost.append(Lost(name, "damaged" if isinstance(error, _Damaged) else "missing"))
        else:
            done.there += copied is None
            done.copied += copied is not None
            done.bytes += copied or 0
        progress(Progress(phase="copying", images=done.copied + done.there))

    with ThreadPoolExecutor(options.parallel, thread_name_prefix="fetch") as pool:
        try:
            for job, row in _chosen(mill, options):
                copy = pool.submit(_copy, mill, job, row, folder, options.thumbnails)
                waiting.append((image_id(job, row.item), copy))
                if len(waiting) >= AHEAD * options.parallel:
                    take()
            while waiting:
                take()
        finally:
            for _, copy in waiting:
                copy.cancel()
    return done


class _Damaged(Exception):
    """The object is not what was stored."""


def _chosen(mill: Mill, options: FetchOptions) -> Iterator[tuple[str, ImageRow]]:
    start = start_now(mill.ledger)
    for keys in matches(mill.ledger, Ask(query=options.query, job=options.job), start):
        with mill.ledger.read() as connection:
            rows = images.of_keys(connection, keys)
        for key in keys:
            if key in rows and _key(rows[key][1], thumbnail=options.thumbnails):
                yield rows[key]


def _key(row: ImageRow, *, thumbnail: bool) -> str | None:
    return row.thumbnail_key if thumbnail else row.object_key


def _copy(mill: Mill, job: str, row: ImageRow, folder: Path, thumbnail: bool) -> int | None:
    """Bytes that were copied; None if the copy was there."""
    key = _key(row, thumbnail=thumbnail) or ""
    path = folder / job / f"{row.item:09d}.{key.rpartition('.')[2]}"
    expected = None if thumbnail else row.sha256
    try:
        if _is_right(path, expected):
            return None
        data = mill.store.get(key)
        if expected is not None and hashlib.sha256(data).hexdigest() != expected:
            raise _Damaged
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
        try:
            partial.write_bytes(data)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    return len(data)


def _is_right(path: Path, sha256: str | None) -> bool:
    if not path.is_file():
        return False
    if sha256 is None:
        return path.stat().st_size > 0
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256
