"""The input pictures of items, on their way from the store to the engine.

Fetched beside the rendering: `prefetch` starts the fetching of what will be wanted soon, a few
threads read it, and what was read last is kept, encoded and at size, within bounds of memory.
A picture that is missing or damaged concerns its item alone (`InputUnusable`); a store that
cannot be reached concerns the worker and is raised as it is.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from PIL import Image

from storage.contract.errors import InputUnusable, ObjectMissing
from storage.contract.items import GroupSpec, Item
from storage.pictures import PictureError, as_image, as_mask, fitted
from storage.ports import ObjectStore
from workers.engine.families.base import Inputs

if TYPE_CHECKING:
    from workers.engine.ports import PictureSource

FETCH_THREADS: Final = 4
KEPT_FILES: Final = 128 << 20
"""Bytes of pictures as they are stored."""

KEPT_PICTURES: Final = 128 << 20
"""Bytes of pictures that are decoded and at size: many rows may start from one."""

AHEAD: Final = 64
"""Pictures that may wait to be fetched; more would push out what is wanted sooner."""

Value = TypeVar("Value")


class StoredPictures:
    """A source of input pictures that lie in an object store; any thread may ask it."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        kept_files: int = KEPT_FILES,
        kept_pictures: int = KEPT_PICTURES,
    ) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._files: Kept[bytes] = Kept(kept_files)
        self._pictures: Kept[Image.Image] = Kept(kept_pictures)
        self._coming: dict[str, Future[bytes]] = {}
        self._threads = ThreadPoolExecutor(FETCH_THREADS, thread_name_prefix="inputs")

    def prefetch(self, items: Sequence[Item]) -> None:
        """Begin to fetch the pictures of `items`, which will be asked for soon."""
        for item in items:
            for key in item.pictures:
                with self._lock:
                    if len(self._coming) >= AHEAD:
                        return
                    self._start(key)

    def inputs_of(self, item: Item, spec: GroupSpec) -> Inputs:
        """The item's pictures at the group's size.

        Raises `InputUnusable` for one that is missing or damaged, and the store's own errors
        where the store is at fault.
        """

        def ready(key: str | None, decode: Callable[[bytes], Image.Image]) -> Image.Image | None:
            return None if key is None else self._ready(key, spec, decode)

        def image(key: str) -> Image.Image:
            return self._ready(key, spec, as_image)

        adapter = item.ip_adapter_image
        return Inputs(
            image=ready(item.image, as_image),
            mask_image=ready(item.mask_image, as_mask),
            control_images=tuple(image(key) for key in item.control_images),
            # What the adapter looks at is no picture of the group's size: its encoder crops it.
            ip_adapter_image=None if adapter is None else self._decoded(adapter, as_image),
        )

    def close(self) -> None:
        """Stop fetching."""
        self._threads.shutdown(cancel_futures=True)

    def _ready(
        self, key: str, spec: GroupSpec, decode: Callable[[bytes], Image.Image]
    ) -> Image.Image:
        form = (key, decode, *spec.picture_size, spec.resize_mode)
        with self._lock:
            kept = self._pictures.get(form)
        if kept is None:
            whole = self._decoded(key, decode)
            kept = fitted(whole, *spec.picture_size, spec.resize_mode)
            size = kept.width * kept.height * len(kept.getbands())
            with self._lock:
                self._pictures.put(form, kept, size)
        return kept.copy()  # whoever changes it must not change the next one's

    def _decoded(self, key: str, decode: Callable[[bytes], Image.Image]) -> Image.Image:
        try:
            return decode(self._fetched(key))
        except ObjectMissing as error:
            raise InputUnusable(f"the input picture {key} is missing") from error
        except PictureError as error:
            raise InputUnusable(f"the input picture {key} {error}") from error

    def _fetched(self, key: str) -> bytes:
        with self._lock:
            kept = self._files.get(key)
            coming = None if kept is not None else self._start(key)
        if kept is not None:
            return kept
        if coming is None:
            return self._store.get(key)
        return coming.result()

    def _start(self, key: str) -> Future[bytes] | None:
        """The fetching of `key`, begun if need be; None if it is here. Call with the lock."""
        if self._files.get(key) is not None:
            return None
        coming = self._coming.get(key)
        if coming is None:
            coming = self._coming[key] = self._threads.submit(self._fetch, key)
        return coming

    def _fetch(self, key: str) -> bytes:
        try:
            data = self._store.get(key)
        except BaseException:
            with self._lock:  # the next one to ask tries again
                self._coming.pop(key, None)
            raise
        with self._lock:
            self._files.put(key, data, len(data))
            self._coming.pop(key, None)
        return data


class Kept(Generic[Value]):
    """The values used last, as many as fit into a number of bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self.size = 0

    def get(self, key: Hashable) -> Value | None:
        """The value kept under `key`, if it still is."""
        found = self._held.get(key)
        if found is None:
            return None
        self._held.move_to_end(key)
        return found[0]

    def put(self, key: Hashable, value: Value, size: int) -> None:
        """Keep `value`, of `size` bytes, and forget the longest unused; not what is too large."""
        if size > self._limit:
            return
        before = self._held.pop(key, None)
        self.size += size - (before[1] if before else 0)
        self._held[key] = (value, size)
        while self.size > self._limit:
            _, (_, freed) = self._held.popitem(last=False)
            self.size -= freed


if TYPE_CHECKING:
    _source: type[PictureSource] = StoredPictures
