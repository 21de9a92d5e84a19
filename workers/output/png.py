"""Encoding pictures and thumbnails."""

from __future__ import annotations

import io
from typing import Final

from PIL import Image, PngImagePlugin

from workers.engine.ports import Pixels
from workers.output.metadata import PARAMETERS, RENDERMILL

PNG_LEVEL: Final = 1
"""Four times as fast as zlib's default, for files a sixth larger."""

THUMBNAIL_SIDE: Final = 256


def encode_png(pixels: Pixels, *, parameters: str, record: str) -> bytes:
    """A PNG of (height, width, 3) uint8 pixels with both metadata texts."""
    texts = PngImagePlugin.PngInfo()
    for key, value in ((PARAMETERS, parameters), (RENDERMILL, record)):
        # Latin-1 goes into tEXt, which every reader knows; anything else into iTXt.
        texts.add_text(key, value)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=PNG_LEVEL, pnginfo=texts)
    return buffer.getvalue()


def encode_thumbnail(pixels: Pixels) -> bytes:
    """A WebP no larger than 256 pixels a side."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=80, method=0)
    return buffer.getvalue()
