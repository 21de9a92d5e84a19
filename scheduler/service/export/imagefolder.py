"""Hugging Face's image folder: pictures, ``metadata.jsonl`` beside them, and a dataset card."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from scheduler.service.export.card import card
from scheduler.service.export.columns import json_columns_of
from scheduler.service.export.forms import Output, Whole
from scheduler.service.export.options import ExportOptions
from scheduler.service.export.samples import Sample
from scheduler.service.export.selection import Shard


class ImageFolder:
    """``data/train/00000/000000000.png``: a folder a shard, each with its metadata."""

    takes_pictures = True

    def __init__(self, options: ExportOptions) -> None:
        self._caption = options.caption

    def shard(self, shard: Shard, alone: bool, samples: Iterator[Sample], out: Output) -> None:
        """The pictures of a folder, and last what is known of them."""
        folder = f"data/{shard.split}/{shard.number:05d}"
        lines = bytearray()
        for number, sample in enumerate(samples, shard.first):
            name = f"{number:09d}.{sample.extension}"
            out.put(f"{folder}/{name}", sample.picture or b"")
            known = {"file_name": name} | json_columns_of(sample, self._caption)
            lines += msgspec.json.encode(known) + b"\n"
        out.put(f"{folder}/metadata.jsonl", bytes(lines))

    def beside(self, whole: Whole, out: Output) -> None:
        """The dataset card."""
        out.put("README.md", card(whole).encode())
