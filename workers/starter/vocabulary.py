"""The words the starter model knows, what they mean, and which combinations it never sees.

Everything here is plain data and pure functions, so that the drawing code, the prompts and the
independent checker can share the words without sharing a single line of drawing.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

Rgb = tuple[int, int, int]

SHAPES: Final[tuple[str, ...]] = (
    "circle",
    "square",
    "triangle",
    "star",
    "heart",
    "moon",
    "cross",
    "arrow",
    "house",
    "tree",
    "flower",
    "boat",
)

COLOUR_VALUES: Final[MappingProxyType[str, Rgb]] = MappingProxyType(
    {
        "red": (220, 38, 44),
        "orange": (246, 126, 22),
        "yellow": (255, 218, 62),
        "green": (44, 160, 76),
        "blue": (38, 92, 216),
        "purple": (128, 58, 176),
        "pink": (248, 140, 188),
        "brown": (124, 74, 38),
        "black": (22, 22, 26),
        "white": (250, 250, 250),
        "grey": (152, 154, 160),
    }
)
"""Eight-bit sRGB value of every colour word."""

OBJECT_COLOURS: Final[tuple[str, ...]] = (
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "brown",
    "black",
    "white",
)

BACKGROUNDS: Final[tuple[str, ...]] = (
    "white",
    "black",
    "grey",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
)

SIZES: Final[tuple[str, ...]] = ("small", "medium", "large")
"""Sizes an object can have; "medium" is what a caption without a size means."""

POSITIONS: Final[tuple[str, ...]] = ("left", "right", "top", "bottom", "centre")

MINIMUM_CONTRAST: Final = 110.0
"""Least Euclidean RGB distance (0 to 441) between an object and its background."""

HELD_OUT_ONE_IN: Final = 10


@dataclass(frozen=True, slots=True)
class Combination:
    """One (shape, object colour, background) triple, the unit of the hold-out."""

    shape: str
    colour: str
    background: str


def contrast(first: str, second: str) -> float:
    """Return the Euclidean RGB distance (0 to 441) between two colour words."""
    pairs = zip(COLOUR_VALUES[first], COLOUR_VALUES[second], strict=True)
    return float(sum((a - b) ** 2 for a, b in pairs) ** 0.5)


def is_visible(colour: str, background: str) -> bool:
    """Say whether an object of this colour stands out from this background."""
    return contrast(colour, background) >= MINIMUM_CONTRAST


def is_held_out(combination: Combination) -> bool:
    """Say whether training must never see this combination.

    A hash decides rather than a random generator, so that the answer for one combination never
    depends on the order or the number of the others.
    """
    text = f"{combination.shape}|{combination.colour}|{combination.background}"
    digest = hashlib.sha256(text.encode("ascii")).digest()
    return int.from_bytes(digest[:8], "big") % HELD_OUT_ONE_IN == 0


def all_combinations() -> Iterator[Combination]:
    """Yield every visible combination in a fixed order."""
    for shape, colour, background in itertools.product(SHAPES, OBJECT_COLOURS, BACKGROUNDS):
        if is_visible(colour, background):
            yield Combination(shape, colour, background)


def held_out_combinations() -> tuple[Combination, ...]:
    """Return the combinations kept for judging the model, about a tenth of all."""
    return tuple(c for c in all_combinations() if is_held_out(c))


def training_combinations() -> tuple[Combination, ...]:
    """Return the combinations that training may draw."""
    return tuple(c for c in all_combinations() if not is_held_out(c))
