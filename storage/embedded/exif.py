"""Automatic1111's text in the EXIF comment, where JPEG, WebP and AVIF files are read for it."""

from __future__ import annotations

import struct
import warnings
from typing import Final

from PIL import ExifTags, Image

_UNICODE: Final = b"UNICODE\0"

# A TIFF file of two directories, the second inside the first; big-endian throughout.
_HEADER: Final = b"MM\0*" + struct.pack(">I", 8)
_COUNT: Final = struct.Struct(">H")
_ENTRY: Final = struct.Struct(">HHII")  # tag, type, count, value or offset
_NO_MORE: Final = struct.pack(">I", 0)
_LONG, _UNDEFINED = 4, 7
_INNER_AT: Final = len(_HEADER) + _COUNT.size + _ENTRY.size + len(_NO_MORE)
_COMMENT_AT: Final = _INNER_AT + _COUNT.size + 2 * _ENTRY.size + len(_NO_MORE)
_VERSION: Final = int.from_bytes(b"0232", "big")


def with_comment(text: str) -> bytes:
    """EXIF with `text` as its user comment, in UTF-16 with the file's byte order (big-endian).

    The order matters: the standard names none for the comment, and readers guess differently
    unless both are the same and big-endian, as other programs write it.
    """
    comment = _UNICODE + text.encode("utf-16-be")
    # By hand: Pillow would write the comment as bytes, where the standard has "undefined".
    main = _COUNT.pack(1) + _ENTRY.pack(ExifTags.IFD.Exif, _LONG, 1, _INNER_AT) + _NO_MORE
    inner = (
        _COUNT.pack(2)
        + _ENTRY.pack(ExifTags.Base.ExifVersion, _UNDEFINED, 4, _VERSION)
        + _ENTRY.pack(ExifTags.Base.UserComment, _UNDEFINED, len(comment), _COMMENT_AT)
        + _NO_MORE
    )
    return b"Exif\0\0" + _HEADER + main + inner + comment


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
