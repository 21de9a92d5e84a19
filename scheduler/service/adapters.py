"""The names of LoRAs, ControlNets and IP-Adapters as every worker understands them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from storage.contract.errors import ModelError
from storage.models.hub import HUB_ID

SAFE: Final = ".safetensors"
_PICKLES: Final = (".ckpt", ".pt", ".pth", ".bin", ".pkl")


def settled(name: str) -> str:
    """A hub id as it is, a folder or file by its whole path; `ModelError` if it is neither."""
    path = Path(name).expanduser() if name.startswith("~") else Path(name)
    if path.suffix.casefold() in _PICKLES:
        raise ModelError(
            f"{name}: pickled weights are refused, they can run programs",
            hint=f"use the {SAFE} file",
        )
    try:
        found = path.exists()
    except OSError:
        found = False
    if found:
        if path.is_file() and path.suffix.casefold() != SAFE:
            raise ModelError(f"{name}: must be a folder or a {SAFE} file")
        return str(path.resolve())
    if HUB_ID.fullmatch(name) and not name.startswith((".", "/", "~")) and path.suffix != SAFE:
        return name
    raise ModelError(f"{name}: there is no such file or folder, and it is no hub id")
