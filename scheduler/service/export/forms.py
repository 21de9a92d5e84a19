"""What every form of an export does: write a shard, and what stands beside the shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO, Final, Protocol

import msgspec

from scheduler.service.export.options import ExportOptions
from scheduler.service.export.samples import Sample
from scheduler.service.export.selection import Shard
from scheduler.service.export.target import Target, Written
from storage.contract.lineage import Lineage

_LINEAGE: Final = msgspec.json.Decoder(Lineage)


class Lost(msgspec.Struct, frozen=True):
    """An image whose file could not be taken out."""

    id: str
    why: str  #: missing, damaged, or deleted


class Told(msgspec.Struct, kw_only=True):
    """What is told of images that were written; of shards, it adds up."""

    images: int = 0
    bytes: int = 0
    models: dict[str, int] = {}
    samplers: dict[str, int] = {}
    sizes: dict[str, int] = {}
    licences: dict[str, str] = {}  #: of models, as their images were recorded with
    imported: int = 0  #: images that another program made
    lost: list[Lost] = []

    def add(self, sample: Sample) -> None:
        """One more image."""
        row = sample.row
        self.images += 1
        self.bytes += len(sample.picture or b"")
        self.imported += sample.is_imported
        revision = f"@{row.revision}" if row.revision else ""
        model = f"{row.model}{revision}"
        licence = _LINEAGE.decode(row.lineage).licence if row.lineage else None
        if licence is not None:
            self.licences.setdefault(model, licence)
        for counts, name in (
            (self.models, model),
            (self.samplers, row.scheduler),
            (self.sizes, f"{row.width}x{row.height}"),
        ):
            counts[name] = counts.get(name, 0) + 1

    def include(self, other: Told) -> None:
        """Another shard's."""
        self.images += other.images
        self.bytes += other.bytes
        self.imported += other.imported
        self.lost += other.lost
        self.licences = other.licences | self.licences
        self.models = dict(Counter(self.models) + Counter(other.models))
        self.samplers = dict(Counter(self.samplers) + Counter(other.samplers))
        self.sizes = dict(Counter(self.sizes) + Counter(other.sizes))


class Output:
    """Files on their way to the target, remembered with their checksums."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.written: list[Written] = []

    def put(self, name: str, data: bytes) -> None:
        """A file at once."""
        self.written.append(self._target.put(name, data))

    def file(self, name: str) -> AbstractContextManager[BinaryIO]:
        """A file to write to."""
        return self._target.file(name, self.written.append)


class Whole(msgspec.Struct, frozen=True, kw_only=True):
    """An export whose shards are all written."""

    options: ExportOptions
    told: Told
    by_split: dict[str, Told]
    licences: dict[str, str | None]  #: of the models, as far as they are known
    known: Callable[[], Iterator[tuple[Shard, Sample]]]  #: all images, without pictures


class Writer(Protocol):
    """A form of export."""

    @property
    def takes_pictures(self) -> bool:
        """Whether files are read; if not, images without one are taken too."""

    def shard(self, shard: Shard, alone: bool, samples: Iterator[Sample], out: Output) -> None:
        """Write one shard; `alone` if its split has no other."""

    def beside(self, whole: Whole, out: Output) -> None:
        """Write what stands beside the shards."""


def shard_name(shard: Shard, alone: bool) -> str:
    """``train``, or ``train-00003``."""
    return shard.split if alone else f"{shard.split}-{shard.number:05d}"
