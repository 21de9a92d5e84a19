"""How a job of imported pictures is told from a rendered one: by its settings."""

from __future__ import annotations

from pathlib import Path

import msgspec


class ImportSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a job whose pictures were imported."""

    imported: str  #: the folder, as an absolute path
    reached: str = ""  #: file an import that is not finished has come to, below the folder


def settings_of(settings: str) -> ImportSettings | None:
    """A job's settings; None if it rendered its pictures."""
    try:
        return msgspec.json.decode(settings, type=ImportSettings)
    except msgspec.MsgspecError:
        return None


def folder_of(settings: str) -> Path | None:
    """The folder a job's pictures came from; None if it rendered them."""
    found = settings_of(settings)
    return Path(found.imported) if found is not None else None
