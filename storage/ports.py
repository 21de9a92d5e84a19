"""What storage offers to its users, as narrow protocols that adapters are checked against."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol


class ObjectStore(Protocol):
    """Keeps whole objects of bytes under keys of ``/``-separated names.

    Raises `ObjectMissing`, `ObjectExists`, `StoreFull` or `StoreUnavailable`, never its
    driver's errors; `ValueError` for a key that `storage.objects.names` refuses.
    """

    def put(self, key: str, data: bytes, *, durable: bool = True, overwrite: bool = True) -> None:
        """Store `data` whole under `key`, replacing what is there.

        A reader sees the old object or the new one, never a part. With `durable` it is on
        stable storage when the call returns; without, a power cut may undo it. Without
        `overwrite` an object that is there stays, and `ObjectExists` is raised unless it has
        the same bytes: of several such puts at once, one wins.
        """

    def get(self, key: str) -> bytes:
        """The bytes under `key`."""

    def size(self, key: str) -> int | None:
        """Bytes stored under `key`, or None if there is no such object."""

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; a missing one is fine."""

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys that start with `prefix`, each once; S3 servers differ in the order."""

    def listed(self, prefix: str) -> Iterator[tuple[str, int]]:
        """The same keys, with the bytes under each, for no more requests."""

    def locate(self, key: str) -> str:
        """Where a person finds the object: a path or URL."""

    def presign(self, key: str, seconds: int) -> str | None:
        """A URL by which anyone may read the object over plain HTTP for so long.

        None if the store has no server of its own to read from.
        """

    def check(self) -> list[str]:
        """Prove that objects can be listed, stored, read and deleted; for `doctor`.

        Raises what is wrong, with what to do; returns what works but may bite later.
        """

    def close(self) -> None:
        """Let go of connections."""
