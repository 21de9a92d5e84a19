"""How a job of imported pictures is told from a rendered one: by its settings."""

from __future__ import annotations

from pathlib import Path

import msgspec


class ImportSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a job whose pictures were imported."""

    imported: str  #: the folder, as an absolute path


def folder_of(settings: str) -> Path | None:
    """The folder a job's pictures came from; None if it rendered them."""
    try:
        return Path(msgspec.json.decode(settings, type=ImportSettings).imported)
    except msgspec.MsgspecError:
        return None
