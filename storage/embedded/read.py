"""Reading back what a file says of itself, whoever wrote it and in whichever format.

Nothing is believed: a file may come from anywhere. What is not there or not readable is None.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from PIL import Image

from storage.contract.errors import InputError
from storage.embedded import exif, jpeg, xmp

PARAMETERS: Final = "parameters"
"""PNG text chunk that other programs read."""

RENDERMILL: Final = "rendermill"
"""PNG text chunk with the canonical JSON. Its ``item`` is a manifest row as it stands."""

XMP_CHUNK: Final = "XML:com.adobe.xmp"

_FORMATS: Final = ("PNG", "JPEG", "WEBP", "AVIF")
_MOST_PIXELS: Final = 1 << 30


class Embedded(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in a file."""

    format: str  #: "PNG", "JPEG", "WEBP" or "AVIF"
    width: int
    height: int
    parameters: str | None = None  #: Automatic1111's text
    record: dict[str, Any] | None = None  #: our canonical JSON
    source_type: str | None = None  #: IPTC's full name


def read_embedded(data: bytes) -> Embedded:
    """What the file says of itself; `InputError` if it is no picture that can be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow warns of, it leaves out
            with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
                if picture.width * picture.height > _MOST_PIXELS:
                    raise InputError(f"too large a picture: {picture.width}x{picture.height}")
                if picture.format == "PNG":
                    picture.load()  # text may follow the pixels
                return _found(picture, data)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(
            f"is no picture that can be read: {error}", hint=f"known are {', '.join(_FORMATS)}"
        ) from error


def _found(picture: Image.Image, data: bytes) -> Embedded:
    info = picture.info
    source, in_xmp = _from_xmp(info, data)
    comment = exif.comment_of(info["exif"]) if isinstance(info.get("exif"), bytes) else None
    return Embedded(
        format=str(picture.format),
        width=picture.width,
        height=picture.height,
        parameters=_text(info.get(PARAMETERS)) or comment,
        record=_record(_text(info.get(RENDERMILL)) or in_xmp),
        source_type=source,
    )


def _from_xmp(info: Mapping[Any, Any], data: bytes) -> tuple[str | None, str | None]:
    """Source type and record."""
    found = info.get("xmp") or info.get(XMP_CHUNK)
    if isinstance(found, str):
        found = found.encode(errors="replace")
    if not isinstance(found, bytes):
        return None, None
    source, record, extended = xmp.parse(found)
    if record is None and extended is not None:
        more = jpeg.extended_xmp(data, extended)
        record = xmp.parse(more)[1] if more else None
    return source, record


def _text(value: object) -> str | None:
    return str(value) if isinstance(value, str) and value else None


def _record(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
