"""Which keys every store can hold, and what lies under them."""

from __future__ import annotations

from typing import Final

PARTIAL: Final = ".partial"
"""Names that start so belong to the folder store: what is not written whole yet."""

_ODD_NAMES: Final = ("", ".", "..")
_MAX_BYTES: Final = 1024  # S3's limit
_SPACE: Final = " "
_DELETE: Final = "\x7f"
_CONTENT_TYPES: Final = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "avif": "image/avif",
    "json": "application/json",
    "jsonl": "application/jsonl",
}


def is_key(text: str) -> bool:
    """Whether every store can keep an object under `text`.

    No name may be empty, lead elsewhere or mean a part. Backslashes and control characters
    are refused too: some S3 servers turn the first into ``/``, and XML cannot carry the second.
    """
    names = text.split("/")
    odd = any(name in _ODD_NAMES or name.startswith(PARTIAL) for name in names)
    unfit = any(sign < _SPACE or sign in (_DELETE, "\\") for sign in text)
    return not odd and not unfit and _fits(text)


def check_key(key: str) -> str:
    """`key` itself; `ValueError` if it is none."""
    if not is_key(key):
        raise ValueError(f"not an object key: {key!r}")
    return key


def content_type(key: str) -> str:
    """What a browser is told about the object."""
    return _CONTENT_TYPES.get(key.rpartition(".")[2], "application/octet-stream")


def _fits(text: str) -> bool:
    try:
        return len(text.encode()) <= _MAX_BYTES
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
