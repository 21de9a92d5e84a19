"""Thumbnails: small WebP files beside the pictures, made from them and to be made again."""

from __future__ import annotations

import io
from typing import Final

from PIL import Image

THUMBNAIL_SIDE: Final = 256


def encode_thumbnail(picture: Image.Image) -> bytes:
    """A WebP no larger than 256 pixels a side; `picture` is left as it is."""
    small = picture.copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=80, method=0)
    return buffer.getvalue()
