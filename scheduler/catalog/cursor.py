"""Where a page of results ended, as text for the next one; made for one query and sort only."""

from __future__ import annotations

import base64
import binascii
from typing import Final
from zlib import crc32

import msgspec

from storage.contract.errors import InputError
from storage.db.search import Place, Sort

_HINT: Final = "leave --after and --before out to begin at the first page"


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    n: int
    value: float | None
    check: int


def encode(place: Place, query: str, sort: Sort) -> str:
    """The cursor of a place."""
    kept = msgspec.json.encode(_Kept(place.n, place.value, _check(query, sort)))
    return base64.urlsafe_b64encode(kept).decode().rstrip("=")


def decode(text: str, query: str, sort: Sort) -> Place:
    """The place a cursor names; `InputError` if it is none, or one of another search."""
    try:
        padded = text + "=" * (-len(text) % 4)
        kept = msgspec.json.decode(base64.b64decode(padded, b"-_", validate=True), type=_Kept)
    except (ValueError, binascii.Error, msgspec.DecodeError):
        raise InputError(f"{text[:40]!r} is not a cursor", hint=_HINT) from None
    if kept.check != _check(query, sort):
        raise InputError("this cursor belongs to another query or sort", hint=_HINT)
    if not 0 <= kept.n < 2**63:
        raise InputError(f"{text[:40]!r} is not a cursor", hint=_HINT)
    return Place(kept.n, kept.value)


def _check(query: str, sort: Sort) -> int:
    return crc32(f"{query}\x00{sort.field}\x00{sort.descending}".encode(errors="replace"))
