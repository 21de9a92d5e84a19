"""Objects as files below a folder of this machine."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from storage.contract.errors import ObjectMissing, StoreFull, StoreUnavailable

if TYPE_CHECKING:
    from storage.ports import ObjectStore

_PARTIAL = ".partial"
_ODD_NAMES = ("", ".", "..")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


class FolderStore:
    """Keeps each object as one file: written apart, then renamed into its place."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._made: set[Path] = set()
        self._lock = threading.Lock()

    def put(self, key: str, data: bytes, *, durable: bool = True) -> None:
        """Write beside, flush to the disk, rename into place, flush the folder's entry."""
        target = self._path(key)
        with _translated(key):
            try:
                self._write(target, data, durable=durable)
            except FileNotFoundError:  # somebody removed a folder since it was made
                self._made.clear()
                self._write(target, data, durable=durable)

    def sweep(self, older_than_seconds: float) -> int:
        """Remove what killed writers left unfinished; how many files that was."""
        removed = 0
        with _translated(_PARTIAL):
            for path in (self.root / _PARTIAL).glob("*"):
                with suppress(FileNotFoundError):
                    if time.time() - path.stat().st_mtime > older_than_seconds:
                        path.unlink()
                        removed += 1
        return removed

    def get(self, key: str) -> bytes:
        """The file's bytes."""
        with _translated(key):
            try:
                return self._path(key).read_bytes()
            except _ABSENT as error:
                raise ObjectMissing(f"there is no object {key}") from error

    def size(self, key: str) -> int | None:
        """The file's size."""
        with _translated(key), suppress(*_ABSENT):
            found = self._path(key).stat()
            return found.st_size if stat.S_ISREG(found.st_mode) else None
        return None

    def delete(self, keys: Iterable[str]) -> None:
        """Unlink files; folders stay."""
        for key in keys:
            with _translated(key), suppress(*_ABSENT):
                self._path(key).unlink()

    def keys(self, prefix: str) -> Iterator[str]:
        """Walk the folders below the last whole folder of `prefix`."""
        folder = prefix.rpartition("/")[0]
        if folder and not _is_key(folder):
            return
        with _translated(prefix):
            yield from self._walk(self.root / folder, prefix)

    def locate(self, key: str) -> str:
        """The file's path, as short as it can be written from here."""
        path = self._path(key)
        with suppress(ValueError):
            return str(path.relative_to(Path.cwd()))
        return str(path)

    def _walk(self, folder: Path, prefix: str) -> Iterator[str]:
        if not folder.is_dir():
            return
        entries = sorted(os.scandir(folder), key=lambda e: e.name + ("/" if e.is_dir() else ""))
        for entry in entries:
            key = Path(entry.path).relative_to(self.root).as_posix()
            if entry.is_dir(follow_symlinks=False):
                if (key + "/").startswith(prefix) or prefix.startswith(key + "/"):
                    yield from self._walk(Path(entry.path), prefix)
            elif key.startswith(prefix) and not key.startswith(_PARTIAL):
                yield key

    def _path(self, key: str) -> Path:
        if not _is_key(key):
            raise ValueError(f"not an object key: {key!r}")
        return self.root / key

    def _write(self, target: Path, data: bytes, *, durable: bool) -> None:
        # Unfinished files lie apart from the pictures, where nobody takes one for a picture.
        partial = self.root / _PARTIAL / secrets.token_hex(8)
        self._make_folder(partial.parent)
        self._make_folder(target.parent)
        try:
            with open(partial, "xb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            partial.replace(target)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise
        if durable:
            _sync_folder(target.parent)

    def _make_folder(self, folder: Path) -> None:
        """Make a folder and those above it; that they are there survives a power cut."""
        if folder in self._made:
            return
        new = [place for place in (folder, *folder.parents) if not place.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for place in new:
            _sync_folder(place.parent)
        with self._lock:
            self._made.add(folder)


def _is_key(text: str) -> bool:
    """Whether a file can stand for it: no name may be empty, lead elsewhere or mean a part."""
    names = text.split("/")
    odd = any(name in _ODD_NAMES or name.startswith(_PARTIAL) for name in names)
    return not odd and "\0" not in text


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated(key: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StoreFull(
                f"no space left to store {key} ({error.strerror})",
                hint="free some space",
            ) from error
        raise StoreUnavailable(
            f"cannot reach {error.filename2 or error.filename or key}: {error.strerror}",
            hint="check that the folder exists and may be written",
        ) from error


if TYPE_CHECKING:
    _store: ObjectStore = FolderStore(Path())
