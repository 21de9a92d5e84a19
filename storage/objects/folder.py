"""Objects as files below a folder of this machine."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from storage.contract.errors import ObjectExists, ObjectMissing, StoreFull, StoreUnavailable
from storage.objects.names import PARTIAL, check_key, is_key

if TYPE_CHECKING:
    from storage.ports import ObjectStore

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


class FolderStore:
    """Keeps each object as one file: written apart, then renamed into its place."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._made: set[Path] = set()
        self._lock = threading.Lock()

    def put(self, key: str, data: bytes, *, durable: bool = True, overwrite: bool = True) -> None:
        """Write beside, flush to the disk, rename into place, flush the folder's entry."""
        target = self._path(key)
        place = _replace if overwrite else _add
        with _translated(key):
            try:
                self._write(target, data, durable=durable, place=place)
            except FileExistsError as error:
                if target.read_bytes() != data:
                    raise ObjectExists(f"there is another object {key} already") from error
            except FileNotFoundError:  # somebody removed a folder since it was made
                self._made.clear()
                self._write(target, data, durable=durable, place=place)

    def sweep(self, older_than_seconds: float) -> int:
        """Remove what killed writers left unfinished; how many files that was."""
        removed = 0
        with _translated(PARTIAL):
            for path in (self.root / PARTIAL).glob("*"):
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
        if folder and not is_key(folder):
            return
        with _translated(prefix):
            yield from self._walk(self.root / folder, prefix)

    def listed(self, prefix: str) -> Iterator[tuple[str, int]]:
        """The same, each file's size asked for by itself."""
        for key in self.keys(prefix):
            size = self.size(key)
            if size is not None:  # it is still there
                yield key, size

    def locate(self, key: str) -> str:
        """The file's path, as short as it can be written from here."""
        path = self._path(key)
        with suppress(ValueError):
            return str(path.relative_to(Path.cwd()))
        return str(path)

    def presign(self, key: str, seconds: int) -> str | None:
        """There is no server."""
        self._path(key)
        return None

    def check(self) -> list[str]:
        """Store, read, list and delete a small object."""
        key = f"checks/{secrets.token_hex(8)}"
        self.put(key, b"may this be written?")
        try:
            if list(self.keys(key)) != [key] or self.get(key) != b"may this be written?":
                raise StoreUnavailable(
                    f"{self.root}: what was stored does not come back",
                    hint="check the disk or the network file system",
                )
        finally:
            self.delete([key])
        return []

    def close(self) -> None:
        """Nothing to let go of."""

    def _walk(self, folder: Path, prefix: str) -> Iterator[str]:
        if not folder.is_dir():
            return
        entries = sorted(os.scandir(folder), key=lambda e: e.name + ("/" if e.is_dir() else ""))
        for entry in entries:
            key = Path(entry.path).relative_to(self.root).as_posix()
            if entry.is_dir(follow_symlinks=False):
                if (key + "/").startswith(prefix) or prefix.startswith(key + "/"):
                    yield from self._walk(Path(entry.path), prefix)
            elif key.startswith(prefix) and not key.startswith(PARTIAL):
                yield key

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def _write(
        self, target: Path, data: bytes, *, durable: bool, place: Callable[[Path, Path], None]
    ) -> None:
        # Unfinished files lie apart from the pictures, where nobody takes one for a picture.
        partial = self.root / PARTIAL / secrets.token_hex(8)
        self._make_folder(partial.parent)
        self._make_folder(target.parent)
        try:
            with open(partial, "xb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            place(partial, target)
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


def _replace(partial: Path, target: Path) -> None:
    partial.replace(target)


def _add(partial: Path, target: Path) -> None:
    """Put the file into its place unless there is one; `FileExistsError` if so."""
    try:
        os.link(partial, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Some file systems (exFAT, many network ones) have no links: to look is all there is.
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        partial.replace(target)
    else:
        partial.unlink()


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
