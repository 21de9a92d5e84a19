"""Single weight files: LoRAs, IP-Adapters and the like, on this machine or on the hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from storage.contract.errors import ModelError
from storage.models.hub import HUB_ID, fetch_hub_file, list_hub_files
from storage.models.weights import PICKLE_SUFFIXES, SUFFIX

LORA_FILE: Final = "pytorch_lora_weights.safetensors"
"""What diffusers calls a LoRA's file where several lie together."""


def locate_file(
    name: str,
    *,
    revision: str | None = None,
    weight_name: str | None = None,
    subfolder: str = "",
) -> Path:
    """The safetensors file that is meant, fetched if need be; `ModelError` says what to do.

    `name` is a file, a folder, or a hub id. Where several lie together `weight_name` says which;
    without it the only one is taken, or diffusers' own name for a LoRA.
    """
    for part in (weight_name or "", subfolder):
        if Path(part).is_absolute() or ".." in Path(part).parts:
            raise ModelError(f"{name!r}: {part!r} leads out of its folder")
    path = _path(name)
    if path is not None and path.is_file():
        if revision is not None:
            raise ModelError(f"{name!r} is a file and has no revision {revision!r}")
        return _checked(path, name)
    if path is not None and path.is_dir():
        if revision is not None:
            raise ModelError(f"{name!r} lies in a folder and has no revision {revision!r}")
        folder = path / subfolder
        if weight_name is None:
            names = [file.name for file in folder.glob("*") if file.is_file()]
            return folder / _only(names, name, subfolder)
        return _there(folder / weight_name, name)
    if not HUB_ID.fullmatch(name) or name.endswith(SUFFIX):
        raise ModelError(
            f"no weights {name!r}: it is neither a {SUFFIX} file, nor a folder, nor a hub id"
        )
    start = f"{subfolder}/" if subfolder else ""
    if weight_name is None:
        listed = list_hub_files(name, revision)
        inside = [one.removeprefix(start) for one in listed if one.startswith(start)]
        weight_name = _only([one for one in inside if "/" not in one], name, subfolder)
    _check_suffix(weight_name, name)
    return fetch_hub_file(name, revision, start + weight_name)


def _path(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        return path if name and path.exists() else None
    except (OSError, RuntimeError, ValueError):  # too long, no such ~user, NUL
        return None


def _checked(path: Path, name: str) -> Path:
    _check_suffix(path.name, name)
    return path


def _there(file: Path, name: str) -> Path:
    _check_suffix(file.name, name)
    if not file.is_file():
        raise ModelError(f"{name!r} has no file {file}")
    return file


def _check_suffix(file: str, name: str) -> None:
    if Path(file).suffix.casefold() in PICKLE_SUFFIXES:
        raise ModelError(_pickled(name, file))
    if not file.endswith(SUFFIX):
        raise ModelError(f"{name!r}: {file} is no {SUFFIX} file")


def _only(names: Sequence[str], name: str, subfolder: str) -> str:
    """The one safetensors file among `names`."""
    safe = sorted(one for one in names if one.endswith(SUFFIX))
    if LORA_FILE in safe:
        return LORA_FILE
    if len(safe) == 1:
        return safe[0]
    where = f"{name!r}{f' ({subfolder})' if subfolder else ''}"
    if safe:
        shown = ", ".join(safe[:5]) + (" ..." if len(safe) > 5 else "")
        raise ModelError(f"{where} has several files: {shown}", hint="name one with weight_name")
    pickles = sorted(one for one in names if Path(one).suffix.casefold() in PICKLE_SUFFIXES)
    if pickles:
        raise ModelError(_pickled(where, pickles[0]))
    raise ModelError(f"{where} has no {SUFFIX} file")


def _pickled(name: str, file: str) -> str:
    return (
        f"{name} has only pickled weights ({file}), which can run code when they are loaded and"
        f" are refused; use its {SUFFIX} file, or convert it"
    )
