"""Where LoRAs, ControlNets and IP-Adapters are found, as every worker understands it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from storage.contract.errors import ModelError
from storage.models.hub import HUB_ID, hub_commit

SAFE: Final = ".safetensors"
_PICKLES: Final = (".ckpt", ".pt", ".pth", ".bin", ".pkl")


def settled(name: str, revision: str | None) -> tuple[str, str | None]:
    """A hub id with the commit it means now, or a folder or file by its whole path.

    Without a commit where nobody can tell it. `ModelError` if it is neither.
    """
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
        if revision is not None:
            raise ModelError(f"{name}: lies on this machine and has no revision {revision!r}")
        return str(path.resolve()), None
    if HUB_ID.fullmatch(name) and not name.startswith((".", "/", "~")) and path.suffix != SAFE:
        return name, hub_commit(name, revision) or revision
    raise ModelError(f"{name}: there is no such file or folder, and it is no hub id")
