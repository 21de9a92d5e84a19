"""Running an export: choose, write shard by shard, and say what there is.

Killed at any moment and run again, it goes on behind the last shard that was recorded as done,
and ends with the same bytes: shards are made the same way each time and put into their place
whole, and what is under way lies apart (`target.WORK`).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import msgspec

from scheduler.service.export.diffusiondb import DiffusionDb
from scheduler.service.export.forms import Lost, Output, Told, Whole, Writer
from scheduler.service.export.imagefolder import ImageFolder
from scheduler.service.export.licences import licence_of
from scheduler.service.export.options import ExportOptions, Form
from scheduler.service.export.parquet import Parquet
from scheduler.service.export.plain import CommaSeparated, Files, JsonLines
from scheduler.service.export.samples import Key, Sample, Samples
from scheduler.service.export.selection import (
    Shard,
    Start,
    check_query,
    entries_of,
    make_plan,
    start_now,
)
from scheduler.service.export.target import WORK, Target, Written
from scheduler.service.export.webdataset import WebDataset
from storage.contract.errors import InputError
from storage.contract.keys import image_id
from storage.opening import Mill

MANIFEST: Final = "export.json"
"""Says what an export is, and lists its shards; there from the start."""

CHECKSUMS: Final = "SHA256SUMS"
"""Of every file but itself and `MANIFEST`, as ``sha256sum -c`` reads them."""

_BEGUN: Final = f"{WORK}/begun.json"
_PLANNED: Final = f"{WORK}/planned.json"


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far an export is."""

    phase: str  #: choosing, writing
    images: int  #: done
    of: int | None = None  #: None: not known yet


class ShardSaid(msgspec.Struct, frozen=True, kw_only=True):
    """A shard in `MANIFEST`."""

    split: str
    number: int
    images: int
    files: int
    bytes: int
    sha256: str  #: of its file; of several, of their lines in `CHECKSUMS`


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """`MANIFEST`: an export that is complete, or (without shards) one under way."""

    format: Form
    query: str
    options: ExportOptions
    complete: bool = False
    images: int = 0
    bytes: int = 0  #: of all files
    last: int = 0  #: what came into the catalog after this number is not in it
    splits: dict[str, int] = {}
    shards: list[ShardSaid] = []
    lost: list[Lost] = []


class _Done(msgspec.Struct, frozen=True):
    """What is recorded of a shard that is written."""

    told: Told
    files: list[Written]


def export(
    mill: Mill,
    target: Target,
    options: ExportOptions,
    *,
    progress: Callable[[Progress], None] = lambda _: None,
    licence: Callable[[str], str | None] = licence_of,
) -> Exported:
    """Export what the options ask for, or go on with it; what came of it.

    `InputError` if something else lies at the target.
    """
    options.check()
    check_query(mill.ledger, options)
    writer = _writer(mill, options)
    found = _found(target, options)
    if found is not None and found.complete:
        target.clear()
        return found
    start, shards = _planned(mill, target, options, progress)
    run = _Run(target, options, writer, Samples(mill), shards)
    run.write(progress)
    return run.finish(start, licence)


def _writer(mill: Mill, options: ExportOptions) -> Writer:
    made: dict[Form, Callable[[], Writer]] = {
        Form.FILES: Files,
        Form.WEBDATASET: partial(WebDataset, options),
        Form.PARQUET: partial(Parquet, options, mill.store.locate),
        Form.HF: partial(ImageFolder, options),
        Form.DIFFUSIONDB: partial(DiffusionDb, options),
        Form.JSONL: partial(JsonLines, options),
        Form.CSV: partial(CommaSeparated, options),
    }
    return made[options.format]()


def _found(target: Target, options: ExportOptions) -> Exported | None:
    """What lies at the target already; `InputError` if it is something else."""
    text = target.read(MANIFEST)
    if text is None:
        if not (target.is_empty() or target.names(f"{WORK}/")):
            raise InputError(
                f"{target.locate('')} is not empty, and holds no export",
                hint="name a new folder",
            )
        new = Exported(format=options.format, query=options.query, options=options)
        target.put(MANIFEST, _json(new))
        return None
    try:
        found = msgspec.json.decode(text, type=Exported)
    except msgspec.DecodeError as error:
        raise InputError(f"{target.locate(MANIFEST)} cannot be read: {error}") from error
    if found.options != options:
        raise InputError(
            f"{target.locate('')} holds another export: {found.format} of {found.query!r}",
            hint="run it with the options it was begun with, or name a new folder",
        )
    return found


def _planned(
    mill: Mill, target: Target, options: ExportOptions, progress: Callable[[Progress], None]
) -> tuple[Start, list[Shard]]:
    """The shards of the export, from the first time it was run."""
    begun = target.read(_BEGUN)
    if begun is None:
        start = start_now(mill.ledger)
        target.put(_BEGUN, _json(start))
    else:
        start = msgspec.json.decode(begun, type=Start)
    planned = target.read(_PLANNED)
    if planned is not None:
        return start, msgspec.json.decode(planned, type=list[Shard])

    def found(count: int) -> None:
        progress(Progress(phase="choosing", images=count))

    shards = make_plan(mill.ledger, target, options, start, found)
    target.put(_PLANNED, _json(shards))
    return start, shards


@dataclass(kw_only=False, slots=True)
class _Run:
    """An export whose shards are known."""

    target: Target
    options: ExportOptions
    writer: Writer
    samples: Samples
    shards: list[Shard]

    def write(self, progress: Callable[[Progress], None]) -> None:
        """Write the shards that are not written yet."""
        done = set(self.target.names(f"{WORK}/done/"))
        of = sum(one.images for one in self.shards)
        images = sum(one.images for one in self.shards if one.done in done)
        progress(Progress(phase="writing", images=images, of=of))
        each = Counter(one.split for one in self.shards)
        for shard in self.shards:
            if shard.done in done:
                continue

            def tell(count: int, before: int = images) -> None:
                progress(Progress(phase="writing", images=before + count, of=of))

            self._write(shard, each[shard.split] == 1, tell)
            images += shard.images

    def finish(self, start: Start, licence: Callable[[str], str | None]) -> Exported:
        """Write what stands beside the shards, and say what there is."""
        told, by_split = Told(), {split: Told() for split in self.options.splits}
        said: list[ShardSaid] = []
        with self.target.file(CHECKSUMS, lambda _: None) as file:
            for shard, done in self._done():
                told.include(done.told)
                by_split[shard.split].include(done.told)
                said.append(_said(shard, done))
                file.write(_lines(done.files))
            out = self._beside(told, by_split, licence)
            file.write(_lines(out.written))
        exported = Exported(
            format=self.options.format,
            query=self.options.query,
            options=self.options,
            complete=True,
            images=told.images,
            bytes=sum(one.bytes for one in said) + _bytes(out.written),
            last=start.last,
            splits={split: one.images for split, one in by_split.items()},
            shards=said,
            lost=told.lost,
        )
        self.target.settle()
        self.target.put(MANIFEST, _json(exported))
        self.target.clear()
        return exported

    def _write(self, shard: Shard, alone: bool, tell: Callable[[int], None]) -> None:
        """Write one shard, and record that it is written."""
        told, out = Told(), Output(self.target)

        def lost(sample: Sample, why: str) -> None:
            told.lost.append(Lost(sample.id, why))

        def counted(found: Iterator[Sample]) -> Iterator[Sample]:
            for sample in found:
                yield sample
                told.add(sample)
                tell(told.images)

        def gone(key: Key) -> None:
            told.lost.append(Lost(image_id(str(key[0]), key[1]), "deleted"))

        known = self.samples.known(entries_of(self.target, shard), gone)
        if self.writer.takes_pictures:
            known = self.samples.with_pictures(known, lost)
        self.writer.shard(shard, alone, counted(known), out)
        self.target.settle()
        self.target.put(shard.done, _json(_Done(told, out.written)))

    def _beside(
        self, told: Told, by_split: dict[str, Told], licence: Callable[[str], str | None]
    ) -> Output:
        whole = Whole(
            options=self.options,
            told=told,
            by_split={split: one for split, one in by_split.items() if one.images},
            licences={model: told.licences.get(model) or licence(model) for model in told.models},
            known=self._known,
        )
        out = Output(self.target)
        self.writer.beside(whole, out)
        return out

    def _known(self) -> Iterator[tuple[Shard, Sample]]:
        for shard in self.shards:
            for sample in self.samples.known(entries_of(self.target, shard)):
                yield shard, sample

    def _done(self) -> Iterator[tuple[Shard, _Done]]:
        """What is recorded of each shard, one at a time: the lists of files are long."""
        for shard in self.shards:
            yield shard, msgspec.json.decode(self.target.read(shard.done) or b"", type=_Done)


def _said(shard: Shard, done: _Done) -> ShardSaid:
    files = done.files
    whole = files[0].sha256 if len(files) == 1 else hashlib.sha256(_lines(files)).hexdigest()
    return ShardSaid(
        split=shard.split,
        number=shard.number,
        images=done.told.images,
        files=len(files),
        bytes=_bytes(files),
        sha256=whole,
    )


def _bytes(files: Sequence[Written]) -> int:
    return sum(one.bytes for one in files)


def _lines(files: Sequence[Written]) -> bytes:
    return "".join(f"{one.sha256}  {one.name}\n" for one in files).encode()


def _json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
