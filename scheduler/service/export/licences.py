"""Licences of models, as far as this machine knows them: nobody is asked over the network."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from storage.models.configs import read_licence
from storage.models.resolve import STARTER, starter_folder

STARTER_LICENCE = "apache-2.0"
"""The model that ships with this package is under the package's licence."""


def licence_of(model: str) -> str | None:
    """The licence that a model's card names, for ``model`` or ``model@revision``; None: unknown."""
    name, _, revision = model.partition("@")
    if name == STARTER:
        return read_licence(starter_folder()) or STARTER_LICENCE
    with suppress(OSError, RuntimeError):
        folder = Path(name).expanduser()
        if folder.is_dir():
            return read_licence(folder)
    return _cached(name, revision or None)


def _cached(model: str, revision: str | None) -> str | None:
    """Of a hub model whose card was fetched before."""
    try:
        import huggingface_hub as hub

        found = hub.try_to_load_from_cache(model, "README.md", revision=revision)
    except (ImportError, ValueError):  # not installed, or not a hub id
        return None
    return read_licence(Path(found).parent) if isinstance(found, str) else None
