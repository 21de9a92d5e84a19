"""Where an export goes: a folder of this machine, or a place in an object store."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol
from urllib.parse import urlsplit

import msgspec

from storage.contract.errors import InputError, ObjectMissing, StoreFull, StoreUnavailable
from storage.objects.folder import FolderStore
from storage.objects.names import check_key

if TYPE_CHECKING:
    from storage.ports import ObjectStore

WORK: Final = ".export"
"""What is under way lies in this folder of the target, and is gone when it is done."""


class Written(msgspec.Struct, frozen=True):
    """A file of the export."""

    name: str
    sha256: str
    bytes: int


class Target(Protocol):
    """Takes files under names of ``/``-separated parts; each is there whole or not at all."""

    def put(self, name: str, data: bytes) -> Written:
        """A small file at once."""

    def file(self, name: str, done: Callable[[Written], None]) -> AbstractContextManager[BinaryIO]:
        """A file to write to, in its place when the ``with`` block ends well; tells `done`."""

    def read(self, name: str) -> bytes | None:
        """What lies under a name."""

    def names(self, prefix: str) -> list[str]:
        """Names that begin so, in order."""

    def is_empty(self) -> bool:
        """Whether nothing lies there."""

    def settle(self) -> None:
        """What was written so far survives a power cut."""

    def clear(self) -> None:
        """Remove the folder `WORK`."""

    def locate(self, name: str) -> str:
        """Where a person finds the file."""


class StoreTarget:
    """A place in an object store; a file is made here first and stored whole."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def put(self, name: str, data: bytes) -> Written:
        """One object."""
        self._store.put(name, data)
        return Written(name, hashlib.sha256(data).hexdigest(), len(data))

    @contextmanager
    def file(self, name: str, done: Callable[[Written], None]) -> Iterator[BinaryIO]:
        """Written to a temporary file of this machine, then stored."""
        with tempfile.TemporaryFile(prefix="rendermill-") as file:
            yield file
            file.seek(0)
            done(self.put(name, file.read()))

    def read(self, name: str) -> bytes | None:
        """The object."""
        try:
            return self._store.get(name)
        except ObjectMissing:
            return None

    def names(self, prefix: str) -> list[str]:
        """Keys, sorted."""
        return sorted(self._store.keys(prefix))

    def is_empty(self) -> bool:
        """Whether there is no key."""
        return next(iter(self._store.keys("")), None) is None

    def settle(self) -> None:
        """A put that was answered is safe."""

    def clear(self) -> None:
        """Delete its objects."""
        self._store.delete(self.names(f"{WORK}/"))

    def locate(self, name: str) -> str:
        """Its URL."""
        return self._store.locate(name)


class FolderTarget:
    """A folder of this machine; a file is written beside the others, then renamed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._small = FolderStore(root)

    def put(self, name: str, data: bytes) -> Written:
        """A file, written in one go."""
        written: list[Written] = []
        with self.file(name, written.append) as file:
            file.write(data)
        return written[0]

    @contextmanager
    def file(self, name: str, done: Callable[[Written], None]) -> Iterator[BinaryIO]:
        """Written under another name, and renamed."""
        target = self.root / check_key(name)
        with _translated(target):
            partial = self.root / WORK / "partial" / secrets.token_hex(8)
            partial.parent.mkdir(parents=True, exist_ok=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with open(partial, "xb") as file:
                    yield file
                with open(partial, "rb") as again:
                    digest = hashlib.file_digest(again, "sha256").hexdigest()
                size = partial.stat().st_size
                partial.replace(target)
            except BaseException:
                with suppress(OSError):
                    partial.unlink(missing_ok=True)
                raise
        done(Written(name, digest, size))

    def read(self, name: str) -> bytes | None:
        """The file's bytes."""
        try:
            return self._small.get(name)
        except ObjectMissing:
            return None

    def names(self, prefix: str) -> list[str]:
        """Files, sorted."""
        return sorted(self._small.keys(prefix))

    def is_empty(self) -> bool:
        """Whether there is no folder, or nothing in it."""
        try:
            return not any(self.root.iterdir())
        except FileNotFoundError:
            return True
        except NotADirectoryError:
            raise InputError(f"{self.root} is a file", hint="name a folder") from None

    def settle(self) -> None:
        """Flush the system's buffers: one call is cheaper than one for each of many files."""
        if hasattr(os, "sync"):
            os.sync()

    def clear(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.root / WORK, ignore_errors=True)

    def locate(self, name: str) -> str:
        """Its path."""
        return str(self.root / name)


def open_target(place: str, *, threads: int = 2) -> Target:
    """The target a person names: a folder, or ``s3://bucket/prefix?endpoint=...``."""
    if urlsplit(place).scheme != "s3":
        return FolderTarget(Path(place))
    from storage.objects.s3 import open_s3
    from storage.objects.s3_client import Options

    return StoreTarget(open_s3(place, Options(connections=threads)))


@contextmanager
def _translated(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            said = f"no space left to write {target}"
            raise StoreFull(said, hint="free some space, then run the same again") from error
        raise StoreUnavailable(
            f"cannot write {error.filename or target}: {error.strerror}",
            hint="check that the folder may be written",
        ) from error


if TYPE_CHECKING:
    from storage.objects.memory import MemoryStore

    _targets: tuple[Target, ...] = (FolderTarget(Path()), StoreTarget(MemoryStore()))
