"""Input pictures between the check of a manifest and its submission, in flat memory.

A file of this machine is named and read again when it is stored, if it is still the same; what
came from elsewhere lies in one temporary file.
"""

from __future__ import annotations

import tempfile
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Final

import msgspec

from storage.contract.errors import InputError
from storage.pictures import input_key
from storage.ports import ObjectStore

THREADS: Final = 4
"""Pictures stored at once."""

_KNOWN: Final = 100_000
"""Keys remembered, so that a picture that is named again is not noted again."""


class _Place(msgspec.Struct, frozen=True, array_like=True):
    key: str
    size: int
    path: str | None  #: None: in the temporary file
    offset: int


class PictureSpool:
    """Takes pictures that were checked, and stores them later."""

    def __init__(self) -> None:
        self.origins: dict[str, str] = {}  # ids of images of the catalog, by key
        self._lock = threading.Lock()
        self._known: OrderedDict[str, None] = OrderedDict()
        self._places: IO[bytes] | None = None
        self._bytes: IO[bytes] | None = None

    def keep(self, key: str, data: bytes, path: Path | None) -> None:
        """Note a picture: the file `path`, or `data` where it has none of this machine."""
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return
            self._known[key] = None
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)
            offset = 0
            if path is None:
                self._bytes = self._bytes or tempfile.TemporaryFile()  # noqa: SIM115
                offset = self._bytes.seek(0, 2)
                self._bytes.write(data)
            self._places = self._places or tempfile.TemporaryFile()  # noqa: SIM115
            said = None if path is None else str(path)
            place = _Place(key, len(data), said, offset)
            self._places.write(msgspec.json.encode(place) + b"\n")

    def store_into(self, store: ObjectStore) -> None:
        """Store all pictures under their keys; those that lie there already are left alone.

        They are never taken back: another job may start from the same picture.
        """
        waiting: list[Future[None]] = []
        with ThreadPoolExecutor(THREADS, thread_name_prefix="inputs") as threads:
            for place in self._noted():
                waiting.append(threads.submit(self._store, place, store))
                if len(waiting) > 2 * THREADS:
                    waiting.pop(0).result()
            for future in waiting:
                future.result()

    def close(self) -> None:
        """Give the disk space back."""
        for file in (self._places, self._bytes):
            if file is not None:
                file.close()

    def _noted(self) -> Iterator[_Place]:
        if self._places is None:
            return
        self._places.seek(0)
        for line in self._places:
            yield msgspec.json.decode(line, type=_Place)

    def _store(self, place: _Place, store: ObjectStore) -> None:
        if store.size(place.key) != place.size:
            store.put(place.key, self._read(place))

    def _read(self, place: _Place) -> bytes:
        if place.path is not None:
            return _unchanged(place, Path(place.path))
        if self._bytes is None:
            raise TypeError("nothing was kept")
        with self._lock:
            self._bytes.seek(place.offset)
            return self._bytes.read(place.size)


def _unchanged(place: _Place, path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read any more: {error.strerror}") from error
    if input_key(data, place.key.rpartition(".")[2]) != place.key:
        raise InputError(
            f"{path}: was changed while the manifest was submitted",
            hint="submit it again; nothing was rendered",
        )
    return data
