"""Thumbnails: small WebP files beside the pictures, made from them and to be made again."""

from __future__ import annotations

import io
import warnings
from typing import Final

from PIL import Image

from storage.contract.errors import InputError

THUMBNAIL_SIDE: Final = 256

FORMATS: Final = ("PNG", "JPEG", "WEBP", "AVIF")
"""Of pictures the catalog keeps."""

_MOST_PIXELS: Final = 1 << 28


def encode_thumbnail(picture: Image.Image) -> bytes:
    """A WebP no larger than 256 pixels a side; `picture` is left as it is."""
    small = picture.copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=80, method=0)
    return buffer.getvalue()


def decoded(data: bytes) -> Image.Image:
    """The whole picture in RGB, as it lies in the file; `InputError` if it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow warns of, it leaves out
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                if picture.width * picture.height > _MOST_PIXELS:
                    raise InputError(f"too large a picture: {picture.width}x{picture.height}")
                return picture.convert("RGB")
    except InputError:
        raise
    except Exception as error:  # decoders raise anything for damaged files
        raise InputError(f"is no picture that can be read: {error}") from error
