"""The perceptual hash of a picture that is no render, without NumPy.

The same bits as the workers': a test holds both against each other.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import median
from typing import Final

from PIL import Image

_SIDE: Final = 8
_SAMPLED: Final = 32


def perceptual_hash(picture: Image.Image) -> int:
    """64 bits that few differ of between pictures that look alike, as a signed integer.

    The signs of the 8 x 8 lowest frequencies (discrete cosine transform, type II) of a 32 x 32
    grey picture, about their median; bits count from the highest, row by row.
    """
    small = picture.convert("L").resize((_SAMPLED, _SAMPLED), Image.Resampling.LANCZOS)
    grey = small.tobytes()
    rows = [grey[start : start + _SAMPLED] for start in range(0, len(grey), _SAMPLED)]
    waves = _cosines()
    along = [[_dot(wave, row) for wave in waves] for row in rows]
    low = [_dot(wave, column) for wave in waves for column in zip(*along, strict=True)]
    middle = median(low)
    bits = sum(1 << (63 - place) for place, value in enumerate(low) if value > middle)
    return bits - (1 << 64) if bits >> 63 else bits


def _dot(wave: tuple[float, ...], values: bytes | list[float] | tuple[float, ...]) -> float:
    return sum(one * other for one, other in zip(wave, values, strict=True))


@lru_cache(maxsize=1)
def _cosines() -> tuple[tuple[float, ...], ...]:
    step = math.pi / (2 * _SAMPLED)
    return tuple(
        tuple(math.cos(wave * (2 * place + 1) * step) for place in range(_SAMPLED))
        for wave in range(_SIDE)
    )
