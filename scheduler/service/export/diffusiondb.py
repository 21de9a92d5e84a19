"""DiffusionDB's layout: parts of a thousand pictures, and one Parquet file of metadata.

Source: poloclub/diffusiondb, README.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from scheduler.service.export.columns import need_pyarrow
from scheduler.service.export.forms import Output, Whole
from scheduler.service.export.options import ExportOptions
from scheduler.service.export.samples import Sample, caption_of
from scheduler.service.export.selection import Shard

_NUMBERS: Final = {
    ("ddim", "DDIMScheduler"): 1,
    ("plms", "PNDMScheduler"): 2,
    ("euler", "EulerDiscreteScheduler"): 3,
    ("euler_a", "EulerAncestralDiscreteScheduler"): 4,
    ("heun", "HeunDiscreteScheduler"): 5,
    ("dpm2", "KDPM2DiscreteScheduler"): 6,
    ("dpm2_a", "KDPM2AncestralDiscreteScheduler"): 7,
    ("lms", "LMSDiscreteScheduler"): 8,
}
SAMPLERS: Final = {name: number for names, number in _NUMBERS.items() for name in names}
"""DiffusionDB's numbers, by our names of samplers and diffusers' classes."""

OTHER_SAMPLER: Final = 9
ROW_GROUP: Final = 10_000

_NAMES: Final = uuid.UUID("6f5a4d3e-0d0c-5b6b-9f6e-6b2b1f3f9a10")


class DiffusionDb:
    """``images/part-000001/*.png`` with ``part-000001.json``, and ``metadata.parquet``."""

    takes_pictures = True

    def __init__(self, options: ExportOptions) -> None:
        self._pyarrow = need_pyarrow()
        self._caption = options.caption

    def shard(self, shard: Shard, alone: bool, samples: Iterator[Sample], out: Output) -> None:
        """One part: its pictures, and what is known of each."""
        part = f"part-{shard.number + 1:06d}"
        known = {}
        for sample in samples:
            name = name_of(sample)
            out.put(f"images/{part}/{name}", sample.picture or b"")
            row = sample.row
            known[name] = {
                "p": caption_of(sample, self._caption),
                "se": row.seed,
                "c": row.guidance_scale,
                "st": row.num_inference_steps,
                "sa": row.scheduler,
            }
        out.put(f"images/{part}/{part}.json", msgspec.json.encode(known))

    def beside(self, whole: Whole, out: Output) -> None:
        """The metadata of all."""
        schema = self._schema()
        lost = {one.id for one in whole.told.lost}
        parquet = self._pyarrow.parquet
        with (
            out.file("metadata.parquet") as file,
            parquet.ParquetWriter(file, schema, compression="zstd") as writer,
        ):
            some: list[dict[str, Any]] = []
            for shard, sample in whole.known():
                if sample.id in lost:
                    continue
                some.append(self._row(shard, sample))
                if len(some) == ROW_GROUP:
                    writer.write_table(self._pyarrow.Table.from_pylist(some, schema=schema))
                    some = []
            if some:
                writer.write_table(self._pyarrow.Table.from_pylist(some, schema=schema))

    def _row(self, shard: Shard, sample: Sample) -> dict[str, Any]:
        row = sample.row
        return {
            "image_name": name_of(sample),
            "prompt": caption_of(sample, self._caption),
            "part_id": shard.number + 1,
            "seed": _fitting(row.seed, 32),
            "step": _fitting(row.num_inference_steps, 16),
            "cfg": row.guidance_scale,
            "sampler": SAMPLERS.get(row.scheduler, OTHER_SAMPLER),
            "width": _fitting(row.width, 16),
            "height": _fitting(row.height, 16),
            "user_name": "",
            "timestamp": datetime.fromtimestamp(row.created_at, UTC),
            "image_nsfw": None if row.flagged is None else float(row.flagged),
            "prompt_nsfw": None,
        }

    def _schema(self) -> Any:
        pa = self._pyarrow
        return pa.schema(
            [
                ("image_name", pa.string()),
                ("prompt", pa.string()),
                ("part_id", pa.uint16()),
                ("seed", pa.uint32()),
                ("step", pa.uint16()),
                ("cfg", pa.float32()),
                ("sampler", pa.uint8()),
                ("width", pa.uint16()),
                ("height", pa.uint16()),
                ("user_name", pa.string()),
                ("timestamp", pa.timestamp("ms", tz="UTC")),
                ("image_nsfw", pa.float32()),
                ("prompt_nsfw", pa.float32()),
            ]
        )


def _fitting(number: int, bits: int) -> int | None:
    """The number if their column holds it; imported pictures may have any."""
    return number if 0 <= number < 1 << bits else None


def name_of(sample: Sample) -> str:
    """A name like theirs, always the same for an image."""
    return f"{uuid.uuid5(_NAMES, sample.id)}.{sample.extension}"
