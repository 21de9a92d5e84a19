"""The invisible watermark: written into the pixels, and read back from the finished file.

By the package the original scripts used, with its method dwtDct, on 8-bit pixels as they did.
It is fragile: flat areas, strong gradients and lossy files can break single bits. So what
counts is what the same package reads from the file, and that is recorded.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from typing import Any, Final

from storage.contract.errors import OutputUnusable
from storage.contract.items import GroupSpec
from storage.contract.output import FAMILY_WATERMARK, OutputOptions, Watermark
from storage.contract.watermarks import Bits, bits_of, family_bits
from storage.models.resolve import describe
from workers.engine.ports import Pixels

METHOD: Final = "dwtDct"

LEAST_SIDE: Final = 256
"""Smaller pictures hold too few blocks; the package refuses them too."""


def message_of(options: OutputOptions, spec: GroupSpec) -> Bits | None:
    """The bits to write; None if none were asked for.

    Raises `OutputUnusable` where the package is missing or the family has no message.
    """
    if options.watermark is None:
        return None
    if importlib.util.find_spec("imwatermark") is None:
        raise OutputUnusable(
            "watermarks need the package invisible-watermark, which this worker has not",
            hint="pip install 'rendermill[watermark]'",
        )
    if options.watermark != FAMILY_WATERMARK:
        return bits_of(options.watermark)
    bits = _family_bits(spec.model, spec.revision)
    if bits is None:
        raise OutputUnusable(
            f"the original scripts of {spec.model} wrote no watermark", hint="give a text"
        )
    return bits


def is_large_enough(pixels: Pixels) -> bool:
    """Whether the picture can hold a watermark."""
    return bool(min(pixels.shape[:2]) >= LEAST_SIDE)


def too_small() -> Watermark:
    """What is recorded of a picture that cannot."""
    return Watermark(note=f"not applied: smaller than {LEAST_SIDE} pixels a side")


def marked(pixels: Pixels, bits: Bits) -> Pixels:
    """A copy of (height, width, 3) uint8 pixels with the message in it."""
    import numpy as np
    from imwatermark import WatermarkEncoder

    encoder = WatermarkEncoder()
    encoder.set_watermark("bits", bits)
    written = encoder.encode(_swapped(pixels), METHOD)
    return np.ascontiguousarray(written[..., ::-1])


def verify(pixels: Pixels, bits: Bits) -> Watermark:
    """What is read from the pixels of the finished file, held against the message."""
    from imwatermark import WatermarkDecoder

    read = WatermarkDecoder("bits", len(bits)).decode(_swapped(pixels), METHOD)
    wrong = sum(int(found) != bit for found, bit in zip(read, bits, strict=True))
    return Watermark(bits=len(bits), wrong=wrong)


def _swapped(pixels: Pixels) -> Any:
    """Blue first, as the package has it."""
    import numpy as np

    return np.ascontiguousarray(pixels[..., ::-1])


@lru_cache(maxsize=16)
def _family_bits(model: str, revision: str | None) -> Bits | None:
    return family_bits(describe(model, revision))
