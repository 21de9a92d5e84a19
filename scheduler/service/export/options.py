"""What an export is asked to be."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from scheduler.service.export.names import DEFAULT_TEMPLATE, check_template
from scheduler.service.export.samples import check_caption
from storage.contract.errors import InputError


class Form(StrEnum):
    """In which form pictures are taken out."""

    FILES = "files"
    WEBDATASET = "webdataset"
    PARQUET = "parquet"
    HF = "hf"
    DIFFUSIONDB = "diffusiondb"
    JSONL = "jsonl"
    CSV = "csv"


WHOLE: Final = "images"
"""The name of the one split of an export without splits, where nothing expects another."""

_SIZE: Final = re.compile(r"([0-9]{1,12})(k|m|g|kb|mb|gb|kib|mib|gib)?", re.IGNORECASE)
_UNITS: Final = {
    "k": 10**3, "kb": 10**3, "kib": 2**10,
    "m": 10**6, "mb": 10**6, "mib": 2**20,
    "g": 10**9, "gb": 10**9, "gib": 2**30,
}  # fmt: skip
_SPLIT_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")


class ShardSize(msgspec.Struct, frozen=True):
    """When a shard is full: after so many images, or before so many bytes of pictures."""

    images: int | None = None
    bytes: int | None = None


class ExportOptions(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides what an export looks like, but for the catalog itself."""

    query: str
    format: Form
    job: str | None = None
    shard: ShardSize = ShardSize()
    splits: dict[str, float] = msgspec.field(default_factory=lambda: {WHOLE: 1.0})
    name_template: str = DEFAULT_TEMPLATE
    caption: str = "prompt"
    link: bool = False  #: Parquet names the pictures rather than hold them

    def check(self) -> None:
        """`InputError` for what does not go together."""
        if self.link and self.format is not Form.PARQUET:
            raise InputError("--link is for --format parquet")
        if self.format is Form.DIFFUSIONDB and self.splits != {WHOLE: 1.0}:
            raise InputError("DiffusionDB's layout knows no splits", hint="leave --split out")
        if self.name_template != DEFAULT_TEMPLATE and self.format is not Form.FILES:
            raise InputError("--name-template is for --format files")
        check_template(self.name_template)
        check_caption(self.caption)


def shard_size(text: str) -> ShardSize:
    """``1000`` (images) or ``512MB`` (bytes of pictures)."""
    found = _SIZE.fullmatch(text.strip())
    count = int(found[1]) if found else 0
    if found is None or count == 0:
        raise InputError(
            f"--shard-size {text}: is neither a number of images nor of bytes",
            hint="such as 1000, or 512MB",
        )
    if found[2] is None:
        return ShardSize(images=count)
    return ShardSize(bytes=count * _UNITS[found[2].lower()])


def splits(text: str) -> dict[str, float]:
    """``train=0.9,test=0.1``: shares that make one whole."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, share = part.strip().partition("=")
        try:
            value = float(share)
        except ValueError:
            value = -1.0
        if not equals or not _SPLIT_NAME.fullmatch(name) or not 0 < value <= 1 or name in found:
            raise InputError(
                f"--split {text}: {part.strip()!r} is no name with a share",
                hint="such as train=0.9,test=0.1; names are small letters, digits and _",
            )
        found[name] = value
    if abs(sum(found.values()) - 1) > 1e-6:
        raise InputError(f"--split {text}: the shares make {sum(found.values()):g}, not 1")
    return found


def usual_splits(form: Form) -> dict[str, float]:
    """One split, named as the readers of that form expect it."""
    named = form in {Form.WEBDATASET, Form.PARQUET, Form.HF}
    return {"train" if named else WHOLE: 1.0}


def split_of(identity: str, shares: Mapping[str, float]) -> str:
    """The split of a picture, by a hash of what it is: whatever else is exported, the same."""
    digest = hashlib.blake2b(identity.encode(), digest_size=8).digest()
    place = int.from_bytes(digest, "big") / 2**64
    for name, share in shares.items():
        place -= share
        if place < 0:
            return name
    return list(shares)[-1]
