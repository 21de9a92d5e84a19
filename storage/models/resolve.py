"""From the name a row gives a model to its card, and to the folder its weights lie in."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

from storage.contract.errors import ModelError
from storage.contract.models import ModelCard
from storage.models.card import read_card
from storage.models.file_card import is_model_file, read_file_card
from storage.models.hub import HUB_ID, describe_hub_model, fetch_hub_model

STARTER: Final = "starter"
"""The model that ships with the package; the default."""


def describe(model: str, revision: str | None = None) -> ModelCard:
    """The card of a model; `ModelError` says where it was looked for."""
    folder = _find(model, revision)
    if folder is None:
        return describe_hub_model(model, revision)
    if folder.is_file():
        return read_file_card(folder.resolve(), model=_canonical(model))
    return read_card(folder, model=_canonical(model), revision=None)


def locate(model: str, revision: str | None = None) -> Path:
    """The folder with the model's files, weights included, fetching them if need be.

    A checkpoint that is one file is that file; `workers.engine.single_file` makes a folder of it.
    """
    return _find(model, revision) or fetch_hub_model(model, revision)


def _canonical(model: str) -> str:
    """The name under which a model is known: folders by their whole path."""
    folder = None if model == STARTER else _folder(model)
    return str(folder.resolve()) if folder else model


def _folder(model: str) -> Path | None:
    """The folder of that name, or the weight file, if there is one."""
    try:
        path = Path(model).expanduser()
        if not model or not path.exists():
            return None
        return path if path.is_dir() or is_model_file(path) else None
    except (OSError, RuntimeError):  # too long for a path, not readable, or no such ~user
        return None


def _find(model: str, revision: str | None) -> Path | None:
    """The model's folder on this machine; None if it must be the hub's."""
    folder = starter_folder() if model == STARTER else _folder(model)
    if folder is None and (not HUB_ID.fullmatch(model) or is_model_file(Path(model))):
        raise ModelError(
            f"no model {model!r}: it is neither {STARTER!r}, nor a folder or file, nor a hub id",
            hint="a hub id looks like stable-diffusion-v1-5/stable-diffusion-v1-5",
        )
    if folder is not None and revision is not None:
        raise ModelError(f"{model!r} lies on this machine and has no revision {revision!r}")
    return folder


def starter_folder() -> Path:
    """The folder of the model that ships with the package."""
    # The package is looked up, not imported: this module must not need torch.
    spec = importlib.util.find_spec("workers.starter")
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / "model" / "model_index.json").exists():
            return Path(place) / "model"
    raise ModelError("the starter model is missing from this installation")
