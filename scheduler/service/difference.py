"""How two pictures differ, and what differed in their making."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec
from PIL import Image, ImageChops

TOLERANCE: Final = 1
"""Levels of 255 by which pictures of the same weights differ at most when only the shape of a
batch or the number of threads differs (measured on CPUs; see the README)."""


class Verdict(StrEnum):
    """What a comparison came to."""

    EQUAL = "equal"
    WITHIN = "within tolerance"
    DIFFERS = "differs"
    ANOTHER_SIZE = "another size"


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """How far two pictures are apart, in levels of 255."""

    verdict: Verdict
    largest: int = 0
    mean: float = 0.0
    changed: float = 0.0  #: share of all samples that differ

    @property
    def is_good(self) -> bool:
        """Whether it counts as the same picture."""
        return self.verdict in (Verdict.EQUAL, Verdict.WITHIN)


def difference(first: bytes, second: bytes, *, tolerance: int = TOLERANCE) -> Difference:
    """Compare the pixels of two picture files."""
    one, other = _pixels(first), _pixels(second)
    if one.size != other.size:
        return Difference(verdict=Verdict.ANOTHER_SIZE)
    apart = ImageChops.difference(one, other)
    histogram = apart.histogram()
    counts = [sum(histogram[level::256]) for level in range(256)]
    samples = sum(counts)
    largest = max((level for level, count in enumerate(counts) if count), default=0)
    return Difference(
        verdict=(
            Verdict.EQUAL
            if largest == 0
            else Verdict.WITHIN
            if largest <= tolerance
            else Verdict.DIFFERS
        ),
        largest=largest,
        mean=sum(level * count for level, count in enumerate(counts)) / samples,
        changed=1 - counts[0] / samples,
    )


def causes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(what, then, now) of everything in two rendering records that can change pixels."""
    found = []
    for name in _DECIDING:
        then, now = before.get(name), after.get(name)
        if name == "steps_down":
            then, now = _beside_the_shape(then), _beside_the_shape(now)
        if isinstance(then, dict) or isinstance(now, dict):
            parts = sorted({*(then or {}), *(now or {})})
            pairs = [(part, (then or {}).get(part), (now or {}).get(part)) for part in parts]
        else:
            pairs = [(name, then, now)]
        found += [(what, _said(a), _said(b)) for what, a, b in pairs if a != b]
    return found


_DECIDING: Final = (
    "weights", "loras", "device", "dtype", "batch", "steps_down", "attention", "versions",
)  # fmt: skip


def _beside_the_shape(steps: Sequence[str] | None) -> list[str]:
    """Steps down that are no other mode, which changes no pixel, and no shape, which is redone."""
    return [step for step in steps or () if step.partition(" ")[0] not in _REDONE]


_REDONE: Final = ("mode", "batch", "encode", "decode")


def _said(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return "none" if value in (None, "") else str(value)


def _pixels(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as picture:
        return picture.convert("RGB")
