"""Images as they are taken out: what is known of each, and its picture."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import msgspec

from storage.contract.errors import InputError, ObjectMissing
from storage.contract.items import SEED_MAX, GroupSpec, Item
from storage.contract.keys import image_id
from storage.contract.record import item_fields
from storage.contract.shards import unpack
from storage.db import groups, images, shards
from storage.db.images import ImageRow
from storage.opening import Mill

READERS: Final = 4
"""Pictures read from the store at once."""

AHEAD: Final = 16
"""Pictures held in memory before they are written."""

ROWS: Final = 500
"""Rows of the catalog read at once."""

CAPTIONS: Final = ("prompt", "negative_prompt", "model")
TAG: Final = "tag."

_SHARDS_KEPT: Final = 4
_TAGS: Final = msgspec.json.Decoder(dict[str, str])
_RENDERING: Final = msgspec.json.Decoder(dict[str, Any])

Key = tuple[int, int]
"""Job id and item."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One image on its way out."""

    job: str
    row: ImageRow
    manifest: dict[str, Any]  #: the manifest row that makes it again
    name: str = ""  #: as the template has it
    picture: bytes | None = None  #: its file

    @property
    def id(self) -> str:
        """``shapes/12``."""
        return image_id(self.job, self.row.item)

    @property
    def extension(self) -> str:
        """Of its file."""
        return (self.row.object_key or "").rpartition(".")[2].lower() or "png"

    @property
    def is_imported(self) -> bool:
        """Whether another program made it: then no task did here."""
        return self.row.task_id == 0

    @property
    def tags(self) -> dict[str, str]:
        """Its tags."""
        return _TAGS.decode(self.row.tags)


def check_caption(field: str) -> None:
    """`InputError` for a field that no caption is made of."""
    if field not in CAPTIONS and not (field.startswith(TAG) and len(field) > len(TAG)):
        raise InputError(
            f"--caption {field}: is no text of an image",
            hint=f"one of {', '.join(CAPTIONS)}, or {TAG}NAME",
        )


def caption_of(sample: Sample, field: str) -> str:
    """The text that goes with a picture."""
    if field.startswith(TAG):
        return sample.tags.get(field.removeprefix(TAG), "")
    return str(getattr(sample.row, field))


def facts(sample: Sample) -> dict[str, Any]:
    """What is known of an image, plain values by name; the same names for every image."""
    row = sample.row
    rendering = _RENDERING.decode(row.rendering) if row.rendering else {}
    known = {name: getattr(row, name) for name in _OF_ROW}
    return (
        {"id": sample.id, "job": sample.job}
        | known
        | {name: rendering.get(name) for name in _OF_RENDERING}
        | {
            "tags": sample.tags,
            "lineage": _RENDERING.decode(row.lineage) if row.lineage else {},
            "phash": None if row.phash is None else f"{row.phash & (2**64 - 1):016x}",
            "flagged": None if row.flagged is None else bool(row.flagged),
            "created_at": datetime.fromtimestamp(row.created_at, UTC).isoformat(),
            "manifest": sample.manifest,
        }
    )


_OF_ROW: Final = (
    "item", "row", "line", "image_no", "outcome", "reason", "prompt", "negative_prompt", "seed",
    "model", "revision", "width", "height", "num_inference_steps", "guidance_scale", "scheduler",
    "bytes", "sha256", "pixels_sha256", "render_key", "truncated_tokens", "seconds", "rating",
)  # fmt: skip
_OF_RENDERING: Final = ("mode", "dtype", "device", "weights")


class Samples:
    """Reads images of a mill: their rows, what they were made of, their pictures."""

    def __init__(self, mill: Mill) -> None:
        self._mill = mill
        self._shards: deque[tuple[int, int, Sequence[Item]]] = deque(maxlen=_SHARDS_KEPT)
        self._spec = lru_cache(1024)(self._group)

    def known(
        self, entries: Iterable[tuple[Key, str]], gone: Callable[[Key], None] = lambda _: None
    ) -> Iterator[Sample]:
        """The images of these keys, in that order, without pictures; `gone` is told of the rest.

        Each comes with the name that stands beside its key.
        """
        for some in _batches(entries, ROWS):
            with self._mill.ledger.read() as connection:
                rows = images.of_keys(connection, [key for key, _ in some])
            for key, name in some:
                if key not in rows:  # deleted for good since it was chosen
                    gone(key)
                    continue
                job, row = rows[key]
                yield Sample(job=job, row=row, manifest=self._manifest(row), name=name)

    def with_pictures(
        self, samples: Iterable[Sample], lost: Callable[[Sample, str], None]
    ) -> Iterator[Sample]:
        """The same with their files, read ahead; `lost` is told of files gone or damaged."""
        waiting: deque[tuple[Sample, Future[bytes]]] = deque()
        with ThreadPoolExecutor(READERS, thread_name_prefix="read") as pool:
            try:
                for sample in samples:
                    key = sample.row.object_key or ""
                    waiting.append((sample, pool.submit(self._mill.store.get, key)))
                    if len(waiting) >= AHEAD:
                        yield from _checked(*waiting.popleft(), lost)
                while waiting:
                    yield from _checked(*waiting.popleft(), lost)
            finally:
                for _, future in waiting:
                    future.cancel()

    def _manifest(self, row: ImageRow) -> dict[str, Any]:
        item = self._item(row.job_id, row.item)
        spec = self._spec(row.group_id)
        if item is not None and spec is not None:
            return item_fields(item, spec)
        # An image that was not made here has no shard: its row is what is known, and nothing
        # stands for what is not.
        known = {name: getattr(row, name) for name in _MANIFEST}
        if not 0 <= row.seed <= SEED_MAX:
            known["seed"] = None
        if row.num_inference_steps == 0:
            known["num_inference_steps"] = known["guidance_scale"] = None
        found = {name: value for name, value in known.items() if value not in {None, ""}}
        tags = _TAGS.decode(row.tags)
        return found | ({"tags": tags} if tags else {})

    def _item(self, job_id: int, item: int) -> Item | None:
        for job, first, items in self._shards:
            if job == job_id and 0 <= item - first < len(items):
                return items[item - first]
        found = self._covering(job_id, item)
        if found is None:
            return None
        first, items = found
        self._shards.append((job_id, first, items))
        return items[item - first] if item - first < len(items) else None

    def _covering(self, job_id: int, item: int) -> tuple[int, Sequence[Item]] | None:
        with self._mill.ledger.read() as connection:
            found = shards.covering(connection, job_id, item, item + 1)
        if not found:
            return None
        first, key = found[0]
        try:
            return first, unpack(self._mill.store.get(key), key=key)
        except ObjectMissing:
            return None

    def _group(self, group_id: int) -> GroupSpec | None:
        with self._mill.ledger.read() as connection:
            try:
                return groups.get(connection, group_id).spec
            except LookupError:
                return None


_MANIFEST: Final = (
    "prompt", "negative_prompt", "model", "revision", "width", "height", "num_inference_steps",
    "guidance_scale", "scheduler", "seed",
)  # fmt: skip


def _checked(
    sample: Sample, read: Future[bytes], lost: Callable[[Sample, str], None]
) -> Iterator[Sample]:
    try:
        data = read.result()
    except ObjectMissing:
        lost(sample, "missing")
        return
    if sample.row.sha256 is not None and hashlib.sha256(data).hexdigest() != sample.row.sha256:
        lost(sample, "damaged")
        return
    yield msgspec.structs.replace(sample, picture=data)


def _batches(entries: Iterable[tuple[Key, str]], size: int) -> Iterator[list[tuple[Key, str]]]:
    some: list[tuple[Key, str]] = []
    for one in entries:
        some.append(one)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some
