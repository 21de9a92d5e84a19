"""From the name a row gives a model to its card, and to the folder its weights lie in."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any, Final

from storage.contract.errors import ModelError
from storage.contract.families import ModelCard
from storage.models.card import read_card

STARTER: Final = "starter"
"""The model that ships with the package; the default."""

_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")

# What a pipeline needs to be described: configs and vocabularies, no weights, never code.
_CONFIGS: Final = ["*.json", "*/*.json", "*/merges.txt", "*/*.model"]
_WEIGHTS: Final = ["*/*.safetensors"]


def describe(model: str, revision: str | None = None) -> ModelCard:
    """The card of a model; `ModelError` says where it was looked for."""
    folder, commit = _find(model, revision, weights=False)
    return read_card(folder, model=_canonical(model), revision=commit)


def locate(model: str, revision: str | None = None) -> Path:
    """The folder with the model's files, weights included, fetching them if need be."""
    return _find(model, revision, weights=True)[0]


def _canonical(model: str) -> str:
    """The name under which a model is known: folders by their whole path."""
    folder = None if model == STARTER else _folder(model)
    return str(folder.resolve()) if folder else model


def _folder(model: str) -> Path | None:
    """The folder of that name, if there is one."""
    try:
        path = Path(model).expanduser()
        return path if model and path.is_dir() else None
    except (OSError, RuntimeError):  # too long for a path, not readable, or no such ~user
        return None


def _find(model: str, revision: str | None, *, weights: bool) -> tuple[Path, str | None]:
    folder = starter_folder() if model == STARTER else _folder(model)
    if folder is None and _HUB_ID.fullmatch(model):
        return _from_hub(model, revision, weights=weights)
    if folder is None:
        raise ModelError(
            f"no model {model!r}: it is neither {STARTER!r}, nor a folder, nor a hub id",
            hint="a hub id looks like stable-diffusion-v1-5/stable-diffusion-v1-5",
        )
    if revision is not None:
        raise ModelError(f"{model!r} lies in a folder and has no revision {revision!r}")
    return folder, None


def starter_folder() -> Path:
    """The folder of the model that ships with the package."""
    # The package is looked up, not imported: this module must not need torch.
    spec = importlib.util.find_spec("workers.starter")
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / "model" / "model_index.json").exists():
            return Path(place) / "model"
    raise ModelError("the starter model is missing from this installation")


def _from_hub(model: str, revision: str | None, *, weights: bool) -> tuple[Path, str | None]:
    hub = _load_hub()
    patterns = _CONFIGS + (_WEIGHTS if weights else [])
    fetch = {"revision": revision, "allow_patterns": patterns}
    try:
        folder = Path(hub.snapshot_download(model, **fetch))
    except Exception as error:  # the hub's client raises many kinds; all mean the same here
        raise _not_found(model, revision, error) from error
    # Snapshots lie in folders named by their commit, whatever branch or tag was asked for.
    commit = folder.name if _COMMIT.fullmatch(folder.name) else revision
    return folder, commit


def _not_found(model: str, revision: str | None, error: Exception) -> ModelError:
    at = f" at revision {revision!r}" if revision else ""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ModelError(
        f"no model {model!r}{at}: it is no folder here, and the Hugging Face hub did not give"
        f" it: {reason}",
        hint="check the name and the network; a gated model needs `hf auth login` first",
    )


def _load_hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ModelError(
            "models from the Hugging Face hub need huggingface_hub",
            hint="pip install 'rendermill[worker]', or name a folder",
        ) from error
    return huggingface_hub
