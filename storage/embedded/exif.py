"""Automatic1111's text in the EXIF comment, where JPEG, WebP and AVIF files are read for it."""

from __future__ import annotations

import struct
import warnings
from typing import Final

from PIL import ExifTags, Image

_UNICODE: Final = b"UNICODE\0"


def with_comment(text: str) -> bytes:
    """EXIF with `text` as its user comment, in UTF-16 with the file's byte order (big-endian).

    The order matters: the standard names none for the comment, and readers guess differently
    unless both are the same and big-endian, as other programs write it.
    """
    exif = Image.Exif()
    exif.endian = ">"
    comment = _UNICODE + text.encode("utf-16-be")
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    return exif.tobytes()


def comment_of(data: bytes) -> str | None:
    """The user comment of EXIF data, whichever way it is written; None if there is none."""
    exif = Image.Exif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow warns of, it leaves out
            exif.load(data)
            comment = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    except (ValueError, SyntaxError, LookupError, TypeError, OSError, struct.error):
        return None  # damaged
    if not isinstance(comment, bytes):
        return comment if isinstance(comment, str) and comment else None
    if comment.startswith(_UNICODE):
        order = "be" if exif.endian == ">" else "le"
        return comment[len(_UNICODE) :].decode(f"utf-16-{order}", "replace") or None
    return comment[8:].decode(errors="replace").strip("\0 ") or None
