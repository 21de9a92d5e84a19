"""The hash of the weights that were loaded: names can be moved, weights cannot."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from storage.models.card import weight_files


def weights_hash(folder: Path, components: Iterable[str]) -> str:
    """SHA-256 over the weight files of these components, in order; 16 digits of it."""
    digest = hashlib.sha256()
    for component in components:
        for file in weight_files(folder / component):
            stat = file.stat()
            digest.update(_file_hash(file, stat.st_size, stat.st_mtime_ns))
    return digest.hexdigest()[:16]


@lru_cache(maxsize=256)
def _file_hash(file: Path, _size: int, _modified: int) -> bytes:
    # Size and time are in the key, so a file that was replaced is read again.
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
