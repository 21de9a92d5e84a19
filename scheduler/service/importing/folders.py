"""The pictures below a folder, in an order that stays the same from one run to the next."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

EXTENSIONS: Final = frozenset({".png", ".jpg", ".jpeg", ".webp", ".avif"})


def pictures(root: Path, after: str = "") -> Iterator[str]:
    """Paths below `root`, with ``/``, in order; those that come after `after`, if it is given.

    Hidden files are passed over, and links to folders: they may lead back.
    """
    yield from _below(root, PurePosixPath(), tuple(PurePosixPath(after).parts))


def _below(root: Path, inside: PurePosixPath, after: tuple[str, ...]) -> Iterator[str]:
    for entry in sorted(os.scandir(root / inside), key=lambda one: one.name):
        if entry.name.startswith(".") or (after and entry.name < after[0]):
            continue
        at_border = bool(after) and entry.name == after[0]
        if entry.is_dir(follow_symlinks=False):
            yield from _below(root, inside / entry.name, after[1:] if at_border else ())
        elif not at_border and Path(entry.name).suffix.lower() in EXTENSIONS and entry.is_file():
            yield str(inside / entry.name)
