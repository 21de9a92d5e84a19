"""What storage offers to its users, as narrow protocols that adapters are checked against."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol


class ObjectStore(Protocol):
    """Keeps whole objects of bytes under keys of ``/``-separated names.

    Raises `ObjectMissing`, `StoreFull` or `StoreUnavailable`, never its driver's errors.
    """

    def put(self, key: str, data: bytes, *, durable: bool = True) -> None:
        """Store `data` whole under `key`, replacing what is there.

        A reader sees the old object or the new one, never a part. With `durable` it is on
        stable storage when the call returns; without, a power cut may undo it.
        """

    def get(self, key: str) -> bytes:
        """The bytes under `key`."""

    def size(self, key: str) -> int | None:
        """Bytes stored under `key`, or None if there is no such object."""

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; a missing one is fine."""

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys that start with `prefix`, in ascending order."""

    def locate(self, key: str) -> str:
        """Where a person finds the object: a path or URL."""
