"""Models on the Hugging Face hub: looked at without their weights, fetched when rendered."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from storage.contract.errors import ModelError
from storage.contract.models import ModelCard
from storage.models.card import read_card
from storage.models.weights import PICKLE_SUFFIXES, WeightFile, blocks_of, one_variant

if TYPE_CHECKING:
    from storage.models.weights import WeightSource

HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")

# What a pipeline needs to be described: configs and vocabularies, no weights, never code.
_CONFIGS: Final = ["*.json", "*/*.json", "*/merges.txt", "*/*.model", "*/*.jinja", "README.md"]


def describe_hub_model(model: str, revision: str | None) -> ModelCard:
    """The card; where weights are not in the cache yet, their headers are asked for."""
    listing = _Listing.ask(model, revision)
    if listing is None:
        folder, commit = _cached(model, revision)
        return read_card(folder, model=model, revision=commit)
    folder = _fetch(model, revision, _CONFIGS)
    return read_card(folder, model=model, revision=listing.commit, source=listing)


def fetch_hub_model(model: str, revision: str | None) -> Path:
    """The folder with configs and the weights of one variant, fetched if need be."""
    listing = _Listing.ask(model, revision)
    if listing is None:
        return _cached(model, revision)[0]
    return _fetch(model, revision, _CONFIGS + listing.weight_paths())


def cached_hub_model(model: str, revision: str | None) -> Path:
    """The folder an earlier download left; nothing is asked of the hub."""
    return _cached(model, revision)[0]


def hub_commit(model: str, revision: str | None) -> str | None:
    """The commit that a branch, a tag or nothing means now.

    Where the hub cannot be asked, that of what was fetched before, or None. `ModelError` if the
    hub has no such repository or revision.
    """
    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    try:
        hub = _load_hub()
    except ModelError:
        return None
    try:
        return str(hub.HfApi().model_info(model, revision=revision).sha)
    except hub.errors.HfHubHTTPError as error:
        raise _not_found(model, revision, error) from error
    except Exception:  # no network, or offline mode: the client raises many kinds
        with suppress(ModelError):
            return _cached(model, revision)[1]
    return None


def fetch_hub_configs(model: str, revision: str | None) -> Path:
    """The folder with configs and vocabularies, no weights; offline, as fetched before."""
    if _Listing.ask(model, revision) is None:
        return _cached(model, revision)[0]
    return _fetch(model, revision, _CONFIGS)


def fetch_hub_file(model: str, revision: str | None, path: str) -> Path:
    """One file of a repository, fetched if need be; offline, from what was fetched before."""
    try:
        hub = _load_hub()
        return Path(hub.hf_hub_download(model, path, revision=revision))
    except Exception as error:  # the hub's client raises many kinds; all mean the same here
        raise _not_found(f"{model} ({path})", revision, error) from error


def list_hub_files(model: str, revision: str | None) -> list[str]:
    """Paths of a repository's files; of those in the cache if the hub cannot be reached."""
    listing = _Listing.ask(model, revision)
    if listing is not None:
        return listing.paths()
    folder = _cached(model, revision)[0]
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def fetch_hub_files(model: str, revision: str | None, patterns: list[str]) -> Path:
    """The folder with the files of these patterns, for what is no pipeline: LoRAs and the like."""
    return _fetch(model, revision, patterns)


class _Listing:
    """The files of a model on the hub at one commit."""

    def __init__(self, model: str, commit: str, sizes: dict[str, int]) -> None:
        self.commit = commit
        self._model = model
        self._sizes = sizes

    @classmethod
    def ask(cls, model: str, revision: str | None) -> _Listing | None:
        """None if the hub cannot be reached, so that the cache must do."""
        hub = _load_hub()
        try:
            info = hub.HfApi().model_info(model, revision=revision, files_metadata=True)
        except hub.errors.HfHubHTTPError as error:
            raise _not_found(model, revision, error) from error
        except Exception:  # no network, or offline mode: the client raises many kinds
            return None
        sizes = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or ()}
        return cls(model, str(info.sha), sizes)

    def paths(self) -> list[str]:
        """All files."""
        return sorted(self._sizes)

    def weight_paths(self) -> list[str]:
        """All components' weight files, one variant of each.

        A repository of one component, such as a ControlNet or a safety checker, has them at its
        root; at the root of a pipeline lie the same weights once more, as single files.
        """
        folders = sorted({path.partition("/")[0] for path in self._sizes if "/" in path})
        paths = [f"{folder}/{name}" for folder in folders for name in self._names(folder)]
        if "model_index.json" not in self._sizes:
            paths += one_variant(path for path in self._sizes if "/" not in path)[0]
        return paths

    def weights(self, component: str) -> list[WeightFile]:
        """By their headers, read over the network."""
        found = []
        for name in self._names(component):
            counts = self._parameters(f"{component}/{name}")
            size = self._sizes[f"{component}/{name}"]
            total, blocks = sum(counts.values()), blocks_of(counts)
            found.append(WeightFile(name=name, size=size, parameters=total, blocks=blocks))
        return found

    def has_pickles(self, component: str) -> bool:
        """By their names."""
        return any(name.endswith(PICKLE_SUFFIXES) for name in self._inside(component))

    def _names(self, component: str) -> list[str]:
        return one_variant(self._inside(component))[0]

    def _inside(self, component: str) -> list[str]:
        start = component + "/"
        return [path.removeprefix(start) for path in self._sizes if path.startswith(start)]

    def _parameters(self, path: str) -> dict[str, int]:
        """By tensor."""
        try:
            header = _load_hub().parse_safetensors_file_metadata(
                self._model, path, revision=self.commit
            )
        except Exception as error:  # the hub's client raises many kinds
            raise _not_found(self._model, self.commit, error) from error
        return {name: tensor.parameter_count for name, tensor in header.tensors.items()}


def _fetch(model: str, revision: str | None, patterns: list[str]) -> Path:
    try:
        hub = _load_hub()
        # By the name that was asked for, not its commit: so the cache knows it offline too.
        return Path(hub.snapshot_download(model, revision=revision, allow_patterns=patterns))
    except Exception as error:  # the hub's client raises many kinds; all mean the same here
        raise _not_found(model, revision, error) from error


def _cached(model: str, revision: str | None) -> tuple[Path, str | None]:
    """What an earlier download left, and its commit."""
    try:
        hub = _load_hub()
        # Only configs are insisted on: the client would miss the variants nobody fetched.
        folder = Path(
            hub.snapshot_download(
                model, revision=revision, local_files_only=True, allow_patterns=_CONFIGS
            )
        )
    except Exception as error:  # the hub's client raises many kinds
        raise _not_found(model, revision, error) from error
    # Snapshots lie in folders named by their commit, whatever branch or tag was asked for.
    return folder, folder.name if _COMMIT.fullmatch(folder.name) else revision


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


if TYPE_CHECKING:
    _source: WeightSource = _Listing("", "", {})
