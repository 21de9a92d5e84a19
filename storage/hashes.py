"""Fingerprints of pictures: of every pixel, and of what the eye sees."""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from typing import Any, Final

from PIL import Image

Pixels = Any
"""A uint8 array of shape (height, width, 3): numpy is imported only where there are pixels."""


_SIDE: Final = 8
_SAMPLED: Final = 32


def pixels_sha256(pixels: Pixels) -> str:
    """SHA-256 of height, width and the (height, width, 3) uint8 values, row by row."""
    height, width = pixels.shape[:2]
    digest = hashlib.sha256(f"{width}x{height}:".encode())
    digest.update(pixels.data if pixels.flags.c_contiguous else pixels.tobytes())
    return digest.hexdigest()


def perceptual_hash(pixels: Pixels) -> int:
    """64 bits that few differ of between pictures that look alike, as a signed integer.

    The same number as ImageHash's ``phash``, which would pull in SciPy and PyWavelets for these
    few lines: the signs of the 8 x 8 lowest frequencies of a 32 x 32 grey picture, about their
    median. Bits count from the highest, row by row.
    """
    import numpy as np

    grey = Image.fromarray(pixels).convert("L")
    small = grey.resize((_SAMPLED, _SAMPLED), Image.Resampling.LANCZOS)
    table = _cosines()
    low = table @ np.asarray(small, dtype=np.float64) @ table.T
    bits = np.packbits(low > np.median(low))
    return int.from_bytes(bits.tobytes(), "big", signed=True)


@lru_cache(maxsize=1)
def _cosines() -> Any:
    """The first rows of the discrete cosine transform (type II), of shape (8, 32)."""
    import numpy as np

    places = 2 * np.arange(_SAMPLED) + 1
    return np.cos(np.outer(np.arange(_SIDE), places) * math.pi / (2 * _SAMPLED))
