"""Plain files, and rows that are a manifest again."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from scheduler.service.export.forms import Output, Whole, shard_name
from scheduler.service.export.options import ExportOptions
from scheduler.service.export.samples import Sample, caption_of, facts
from scheduler.service.export.selection import Shard

FACTS: Final = "rendermill"
"""The field of a row with what is known of its image. Manifests pass it over."""


class Files:
    """Pictures under names by a template."""

    takes_pictures = True

    def shard(self, shard: Shard, alone: bool, samples: Iterator[Sample], out: Output) -> None:
        """One file an image."""
        for sample in samples:
            out.put(sample.name, sample.picture or b"")

    def beside(self, whole: Whole, out: Output) -> None:
        """Nothing."""


class JsonLines:
    """Manifest rows as JSON lines."""

    takes_pictures = False

    def __init__(self, options: ExportOptions) -> None:
        self._caption = options.caption

    def shard(self, shard: Shard, alone: bool, samples: Iterator[Sample], out: Output) -> None:
        """One line an image: a manifest row, and the facts in a field of their own."""
        with out.file(f"{shard_name(shard, alone)}.jsonl") as file:
            for sample in samples:
                row = sample.manifest | {FACTS: only_facts(sample, self._caption)}
                file.write(msgspec.json.encode(row) + b"\n")

    def beside(self, whole: Whole, out: Output) -> None:
        """Nothing."""


class CommaSeparated:
    """Manifest rows as CSV: the columns are the same for every image."""

    takes_pictures = False

    def __init__(self, options: ExportOptions) -> None:
        self._caption = options.caption

    def shard(self, shard: Shard, alone: bool, samples: Iterator[Sample], out: Output) -> None:
        """One line an image, with a header."""
        with out.file(f"{shard_name(shard, alone)}.csv") as file:
            text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
            writer = csv.writer(text, lineterminator="\n")
            columns: list[str] | None = None
            for sample in samples:
                known = only_facts(sample, self._caption)
                if columns is None:
                    columns = [*MANIFEST, *(f"{FACTS}.{name}" for name in known)]
                    writer.writerow(columns)
                given = [sample.manifest.get(name) for name in MANIFEST]
                writer.writerow([_cell(value) for value in (*given, *known.values())])
            text.detach()

    def beside(self, whole: Whole, out: Output) -> None:
        """Nothing."""


MANIFEST: Final = (
    "prompt", "negative_prompt", "model", "revision", "kind", "width", "height",
    "num_inference_steps", "guidance_scale", "scheduler", "clip_skip", "seed", "image",
    "mask_image", "strength", "resize_mode", "control_image", "controlnet", "ip_adapter",
    "ip_adapter_image", "loras", "upscale", "noise_level", "true_cfg_scale",
    "max_sequence_length", "prompt_syntax", "quantization", "cache", "compile", "dtype", "tags",
)  # fmt: skip
"""What `storage.contract.record.item_fields` may say; a test holds the two together."""


def only_facts(sample: Sample, caption: str) -> dict[str, Any]:
    """What a manifest row does not say itself."""
    known = {
        name: value
        for name, value in facts(sample).items()
        if name not in {*MANIFEST, "manifest"} or name in {"dtype"}
    }
    return known if caption == "prompt" else known | {"caption": caption_of(sample, caption)}


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, dict | list | bool):
        return msgspec.json.encode(value).decode()
    return value
