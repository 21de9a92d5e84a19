"""Items and the groups they are rendered in.

Both travel: items in shards (msgpack arrays, so field order is the wire format: only ever
append, with a default), group specs as JSON in SQL. Field names are diffusers'.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from typing import Final

import msgspec

SEED_MAX: Final = 2**32 - 1
"""The largest seed. ``torch.Generator('cpu')`` silently drops higher bits, so they are refused."""

TEXT_TO_IMAGE: Final = "text-to-image"


class Item(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One image to make: what differs between the items of a group."""

    row: int  #: data row of the manifest, from 0, rejected rows counted
    line: int  #: line of the manifest, from 1; a Parquet row or a YAML item counts as one
    image_no: int  #: which image of its row, from 0
    prompt: str
    negative_prompt: str
    seed: int  #: 0 to SEED_MAX
    tags: dict[str, str]  #: columns of the manifest that are not fields


class BatchShape(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows each phase computes at once.

    Pixels depend on these three numbers and not on what else is in the batch, so they are
    chosen once, at submit, and never by the worker (only the memory ladder steps below them,
    and says so on the image).
    """

    encode: int = 8
    denoise: int = 1
    decode: int = 1


class GroupSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What the items of a group have in common: all that must match inside one batch."""

    kind: str = TEXT_TO_IMAGE
    model: str  #: "starter", a hub id, or a folder
    revision: str | None = None  #: commit of the hub model; None for folders
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    scheduler: str  #: canonical name of `storage.contract.samplers`
    clip_skip: int | None = None
    dtype: str = "auto"  #: auto, float32, bfloat16 or float16
    batch: BatchShape = BatchShape()

    @property
    def pixels(self) -> int:
        """Pixels of one image."""
        return self.width * self.height

    @property
    def profile_key(self) -> str:
        """What decides speed and memory on one kind of device."""
        revision = f"@{self.revision}" if self.revision else ""
        return (
            f"{self.model}{revision} {self.width}x{self.height} steps={self.num_inference_steps}"
            f" batch={self.batch.denoise} dtype={self.dtype}"
        )


_SEED_INPUT: Final = struct.Struct("<QQQ")


def derive_seed(job_seed: int, row: int, image_no: int) -> int:
    """The seed of an item whose row names none: a function of these three numbers only.

    The sweep's place is left out on purpose, so that one row keeps its noise over all values
    of a sweep and the pictures can be compared.
    """
    digest = hashlib.blake2b(_SEED_INPUT.pack(job_seed, row, image_no), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def batches(start: int, stop: int, size: int, *, origin: int = 0) -> Iterator[tuple[int, int]]:
    """Cut ``[start, stop)`` at the group's batch borders: multiples of `size` from `origin`.

    A group's batches are fixed by position, so a range that starts or ends inside a batch
    yields a part of it; the renderer still computes that batch at its full shape.
    """
    at = start
    while at < stop:
        border = origin + ((at - origin) // size + 1) * size
        yield at, min(border, stop)
        at = min(border, stop)


def batch_size_for(length: int, preferred: int) -> int:
    """The batch size near `preferred` that wastes least on a group of `length` items.

    17 items with a preferred size of 16 become two batches of 9, not 16 and 1 padded to 16.
    """
    if length < 1 or preferred < 1:
        raise ValueError(f"length and preferred must be positive, not {length} and {preferred}")
    count = -(-length // preferred)
    return -(-length // count)
