"""Objects as files below a folder of this machine."""

from __future__ import annotations

import errno
import os
import secrets
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from storage.contract.errors import ObjectMissing, StoreFull, StoreUnavailable

if TYPE_CHECKING:
    from storage.ports import ObjectStore

_PARTIAL = ".partial-"
_FULL = (errno.ENOSPC, errno.EDQUOT)


class FolderStore:
    """Keeps each object as one file: written beside its place, then renamed into it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._made: set[Path] = set()
        self._lock = threading.Lock()

    def put(self, key: str, data: bytes, *, durable: bool = True) -> None:
        """Write, flush to the disk, rename, and flush the folder's entry."""
        target = self._path(key)
        with _translated(key):
            self._make_folder(target.parent)
            try:
                _write(target, data, durable=durable)
            except FileNotFoundError:  # somebody removed the folder since it was made
                self._made.discard(target.parent)
                self._make_folder(target.parent)
                _write(target, data, durable=durable)

    def get(self, key: str) -> bytes:
        """The file's bytes."""
        with _translated(key):
            return self._path(key).read_bytes()

    def size(self, key: str) -> int | None:
        """The file's size."""
        with _translated(key):
            try:
                return self._path(key).stat().st_size
            except (FileNotFoundError, NotADirectoryError):
                return None

    def delete(self, keys: Iterable[str]) -> None:
        """Unlink files; folders stay."""
        for key in keys:
            with _translated(key):
                self._path(key).unlink(missing_ok=True)

    def keys(self, prefix: str) -> Iterator[str]:
        """Walk the folders below the last whole folder of `prefix`."""
        folder = prefix.rpartition("/")[0]
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
            elif key.startswith(prefix) and not entry.name.startswith(_PARTIAL):
                yield key

    def _path(self, key: str) -> Path:
        parts = PurePosixPath(key).parts
        if not parts or key.startswith("/") or any(part in ("..", ".") for part in parts):
            raise ValueError(f"not an object key: {key!r}")
        return self.root.joinpath(*parts)

    def _make_folder(self, folder: Path) -> None:
        if folder in self._made:
            return
        folder.mkdir(parents=True, exist_ok=True)
        with self._lock:
            self._made.add(folder)


def _write(target: Path, data: bytes, *, durable: bool) -> None:
    partial = target.with_name(f"{_PARTIAL}{secrets.token_hex(6)}-{target.name}")
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
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise ObjectMissing(f"there is no object {key}") from error
    except OSError as error:
        if error.errno in _FULL:
            raise StoreFull(
                f"no space left to store {key} ({error.strerror})",
                hint="free some space",
            ) from error
        raise StoreUnavailable(
            f"cannot reach {error.filename or key}: {error.strerror}",
            hint="check that the folder exists and may be written",
        ) from error


if TYPE_CHECKING:
    _store: ObjectStore = FolderStore(Path())
