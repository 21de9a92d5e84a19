"""The object store's twin for tests: a dictionary behind the same port."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from storage.contract.errors import ObjectExists, ObjectMissing
from storage.objects.names import check_key

if TYPE_CHECKING:
    from storage.ports import ObjectStore


class MemoryStore:
    """Keeps objects in memory; `failing` is raised by every put while it is set."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.failing: Exception | None = None

    def put(self, key: str, data: bytes, *, durable: bool = True, overwrite: bool = True) -> None:
        """Keep a copy."""
        if self.failing is not None:
            raise self.failing
        copy = bytes(data)
        if overwrite:
            self.objects[check_key(key)] = copy
        elif self.objects.setdefault(check_key(key), copy) != copy:
            raise ObjectExists(f"there is another object {key} already")

    def get(self, key: str) -> bytes:
        """The bytes put last."""
        try:
            return self.objects[check_key(key)]
        except KeyError:
            raise ObjectMissing(f"there is no object {key}") from None

    def size(self, key: str) -> int | None:
        """Their number."""
        data = self.objects.get(check_key(key))
        return None if data is None else len(data)

    def delete(self, keys: Iterable[str]) -> None:
        """Forget them."""
        for key in keys:
            self.objects.pop(check_key(key), None)

    def keys(self, prefix: str) -> Iterator[str]:
        """Sorted."""
        return iter(sorted(key for key in self.objects if key.startswith(prefix)))

    def listed(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Sorted."""
        return ((key, len(self.objects[key])) for key in self.keys(prefix))

    def locate(self, key: str) -> str:
        """No place a person could look."""
        return f"memory:{check_key(key)}"

    def presign(self, key: str, seconds: int) -> str | None:
        """There is no server."""
        check_key(key)
        return None

    def check(self) -> list[str]:
        """What a put would raise."""
        if self.failing is not None:
            raise self.failing
        return []

    def close(self) -> None:
        """Nothing to let go of."""


if TYPE_CHECKING:
    _store: ObjectStore = MemoryStore()
