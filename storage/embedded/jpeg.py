"""Segments of a JPEG file: each holds 64 KiB at most, so that a long record takes several."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from typing import Final

from storage.embedded.xmp import SourceType, extension, packet

SEGMENT_BYTES: Final = 65533
"""Of a segment's content, its two bytes of length left out."""

_APP1: Final = b"\xff\xe1"
_XMP: Final = b"http://ns.adobe.com/xap/1.0/\0"
_EXTENDED: Final = b"http://ns.adobe.com/xmp/extension/\0"
_PART: Final = struct.Struct(">32sII")  # name, bytes in all, bytes before this part
_PART_BYTES: Final = SEGMENT_BYTES - len(_EXTENDED) - _PART.size


def xmp_segments(source: SourceType, record: str | None) -> bytes:
    """The XMP segments of a file, with a record of any length."""
    whole = packet(source, record)
    if len(_XMP) + len(whole) <= SEGMENT_BYTES or record is None:
        return _segment(_XMP + whole)
    rest = extension(record)
    # The specification names the packet by its MD5; nothing rests on that being hard to forge.
    name = hashlib.md5(rest, usedforsecurity=False).hexdigest().upper()
    parts = [_segment(_XMP + packet(source, extended=name))]
    for at in range(0, len(rest), _PART_BYTES):
        head = _EXTENDED + _PART.pack(name.encode(), len(rest), at)
        parts.append(_segment(head + rest[at : at + _PART_BYTES]))
    return b"".join(parts)


def extended_xmp(data: bytes, name: str) -> bytes | None:
    """The packet of that name from the segments of a JPEG file; None if a part is missing."""
    whole: bytearray | None = None
    missing = 0
    for content in _app1(data):
        if not content.startswith(_EXTENDED) or len(content) < len(_EXTENDED) + _PART.size:
            continue
        its_name, size, at = _PART.unpack_from(content, len(_EXTENDED))
        part = content[len(_EXTENDED) + _PART.size :]
        if its_name != name.encode() or size > len(data) or at + len(part) > size:
            continue
        if whole is None:
            whole, missing = bytearray(size), size
        whole[at : at + len(part)] = part
        missing -= len(part)
    return bytes(whole) if whole is not None and missing == 0 else None


def _segment(content: bytes) -> bytes:
    return _APP1 + struct.pack(">H", len(content) + 2) + content


def _app1(data: bytes) -> Iterator[bytes]:
    """The contents of all APP1 segments before the pixels."""
    at = 2
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        kind = data[at + 1]
        if kind == 0xDA:  # the pixels begin
            return
        (size,) = struct.unpack_from(">H", data, at + 2)
        if kind == 0xE1:
            yield data[at + 4 : at + 2 + size]
        at += 2 + size
