"""Shards that the library webdataset reads: tar files of samples, each some files of one key."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from scheduler.service.export.forms import Output, Whole
from scheduler.service.export.options import ExportOptions
from scheduler.service.export.samples import Sample, caption_of, facts
from scheduler.service.export.selection import Shard


class WebDataset:
    """``train-000000.tar`` with ``000000000.png``, ``.json`` and ``.txt`` of each image."""

    takes_pictures = True

    def __init__(self, options: ExportOptions) -> None:
        self._caption = options.caption

    def shard(self, shard: Shard, alone: bool, samples: Iterator[Sample], out: Output) -> None:
        """One tar file. Samples are numbered through their split."""
        with (
            out.file(f"{shard.split}-{shard.number:06d}.tar") as file,
            _Tar(file) as tar,
        ):
            for number, sample in enumerate(samples, shard.first):
                key = f"{number:09d}"
                tar.add(f"{key}.{sample.extension}", sample.picture or b"")
                tar.add(f"{key}.json", msgspec.json.encode(facts(sample)))
                tar.add(f"{key}.txt", caption_of(sample, self._caption).encode(errors="replace"))

    def beside(self, whole: Whole, out: Output) -> None:
        """Nothing."""


class _Tar:
    """A tar file that says nothing of when and by whom it was made."""

    def __init__(self, file: BinaryIO) -> None:
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    def add(self, name: str, data: bytes) -> None:
        """One file."""
        about = tarfile.TarInfo(name)
        about.size = len(data)
        about.mode = 0o644
        self._tar.addfile(about, io.BytesIO(data))

    def __enter__(self) -> _Tar:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        if kind is None:
            self._tar.close()
