"""Encoding pictures with their metadata, and thumbnails. The same pixels give the same file."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from PIL import Image, PngImagePlugin

from storage import thumbnails
from storage.contract.output import ImageFormat, OutputOptions
from storage.embedded import exif, jpeg, xmp
from storage.embedded.read import PARAMETERS, RENDERMILL, XMP_CHUNK
from workers.engine.ports import Pixels

FULL_COLOUR_QUALITY: Final = 90
"""From here on JPEG keeps colour at full resolution (4:4:4)."""

_WEBP_METHOD: Final = 2
"""Two thirds of the time of the default (4), for files a few percent larger."""

_AVIF_SPEED: Final = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Texts:
    """What a file says of itself; None: nothing of that kind."""

    parameters: str | None = None  #: Automatic1111's
    record: str | None = None  #: our canonical JSON
    source: xmp.SourceType | None = None


NO_TEXTS: Final = Texts()


def encode_picture(pixels: Pixels, options: OutputOptions, texts: Texts = NO_TEXTS) -> bytes:
    """A file of (height, width, 3) uint8 pixels with its metadata."""
    picture = Image.fromarray(pixels)
    buffer = io.BytesIO()
    if options.format is ImageFormat.PNG:
        picture.save(buffer, "PNG", compress_level=options.png_level, pnginfo=_chunks(texts))
    else:
        name = options.format.media_type.partition("/")[2].upper()
        picture.save(buffer, name, **_how(options), **_metadata(options.format, texts))
    return buffer.getvalue()


def encode_thumbnail(pixels: Pixels) -> bytes:
    """A WebP no larger than 256 pixels a side."""
    return thumbnails.encode_thumbnail(Image.fromarray(pixels))


def decode_picture(data: bytes) -> Pixels:
    """The pixels of a file made by `encode_picture`."""
    import numpy as np

    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def _chunks(texts: Texts) -> PngImagePlugin.PngInfo:
    chunks = PngImagePlugin.PngInfo()
    for key, value in ((PARAMETERS, texts.parameters), (RENDERMILL, texts.record)):
        if value is not None:
            # Latin-1 goes into tEXt, which every reader knows; anything else into iTXt.
            chunks.add_text(key, value)
    if texts.source is not None:
        chunks.add_itxt(XMP_CHUNK, _bare_packet(texts.source).decode())
    return chunks


def _how(options: OutputOptions) -> dict[str, Any]:
    """The encoder's settings."""
    quality = options.effective_quality or 0
    match options.format:
        case ImageFormat.JPEG:
            return {"quality": quality, "subsampling": 0 if quality >= FULL_COLOUR_QUALITY else 2}
        case ImageFormat.AVIF:
            # One thread: pictures are encoded side by side already.
            subsampling = "4:4:4" if quality >= FULL_COLOUR_QUALITY else "4:2:0"
            how = {"quality": quality, "speed": _AVIF_SPEED, "max_threads": 1}
            return how | {"subsampling": subsampling}
        case ImageFormat.WEBP_LOSSLESS:
            # Here quality is effort; "exact" is about colours under transparency.
            return {"lossless": True, "quality": 20, "method": 0}
        case _:
            return {"quality": quality, "method": _WEBP_METHOD}


def _metadata(form: ImageFormat, texts: Texts) -> dict[str, Any]:
    """As Pillow takes it for anything but PNG."""
    found: dict[str, Any] = {}
    if texts.parameters is not None:
        comment = exif.with_comment(texts.parameters)
        # More does not fit into a JPEG's segment; the record has it all.
        if form is not ImageFormat.JPEG or len(comment) <= jpeg.SEGMENT_BYTES:
            found["exif"] = comment
    if texts.source is not None:
        if form is ImageFormat.JPEG:
            found["extra"] = jpeg.xmp_segments(texts.source, texts.record)
        else:
            found["xmp"] = xmp.packet(texts.source, texts.record)
    return found


@lru_cache(maxsize=2)
def _bare_packet(source: xmp.SourceType) -> bytes:
    return xmp.packet(source)
