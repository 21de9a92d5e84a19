"""The hash of all that a group is rendered with, from the files of this machine.

The engine says the same of what it loads; here nothing is fetched and nothing is loaded, so that a
submit can tell what a worker would. Large files are hashed once: what was found is kept beside
their path, size and time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from storage.contract.errors import ModelError
from storage.contract.items import GroupSpec, Lora
from storage.contract.models import ModelCard
from storage.models.files import locate_file
from storage.models.hub import HUB_ID, cached_hub_model
from storage.models.resolve import STARTER, starter_folder
from storage.models.weights import weight_files

KEPT: Final = 10_000
"""Files whose hashes are remembered."""


class FileHashes:
    """SHA-256 of files, remembered in a file of its own."""

    def __init__(self, place: Path | None = None) -> None:
        """`place` is where they are kept; None: only in memory."""
        self._place = place
        self._known: dict[str, tuple[int, int, str]] = {}
        self._is_new = False
        if place is not None:
            with suppress(OSError, msgspec.DecodeError):
                kept = dict[str, tuple[int, int, str]]
                self._known = msgspec.json.decode(place.read_bytes(), type=kept)

    def of(self, file: Path) -> str:
        """The file's hash: 64 hexadecimal digits."""
        path, stat = str(file.resolve()), file.stat()
        known = self._known.pop(path, None)
        if known is None or known[:2] != (stat.st_size, stat.st_mtime_ns):
            with open(file, "rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            known = (stat.st_size, stat.st_mtime_ns, digest)
            self._is_new = True
        self._known[path] = known  # the last used are the last to go
        return known[2]

    def keep(self) -> None:
        """Write down what is new; that it cannot be written costs only time."""
        if self._place is None or not self._is_new:
            return
        kept = dict(list(self._known.items())[-KEPT:])
        partial = self._place.with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            self._place.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(msgspec.json.encode(kept))
            partial.replace(self._place)
            self._is_new = False


def loaded_hash(spec: GroupSpec, card: ModelCard, files: FileHashes) -> str | None:
    """The hash of the weights of a group, as the engine will say it.

    None where not all of them are here as folders of safetensors files, or where it takes the
    engine to say what is loaded: single-file checkpoints, models no record covers.
    """
    try:
        return _loaded_hash(spec, card, files)
    except (ModelError, OSError):
        return None


def combined(hashes: Iterable[str], loras: Mapping[str, str], spec: GroupSpec) -> str:
    """One hash of the model's and its companions', and of its LoRAs with their weights."""
    parts = [*hashes, *(f"{loras[lora.label]}*{lora.weight}" for lora in spec.loras)]
    if len(parts) == 1:
        return parts[0]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


def _loaded_hash(spec: GroupSpec, card: ModelCard, files: FileHashes) -> str | None:
    folder = _folder(spec.model, spec.revision)
    if folder is None or card.is_plain or spec.ip_adapter is not None or spec.upscaler is not None:
        return None
    names = card.family.components_of(spec.kind)
    hashes = [_together((file for name in names for file in weight_files(folder / name)), files)]
    for net in spec.controlnets:
        beside = _folder(net.model, net.revision)
        if beside is None:
            return None
        hashes.append(_together(weight_files(beside), files))
    loras = {}
    for lora in spec.loras:
        file = _lora_file(lora)
        if file is None:
            return None
        loras[lora.label] = files.of(file)
    return combined(hashes, loras, spec)


def _together(found: Iterable[Path], files: FileHashes) -> str:
    """As `storage.models.weights.files_hash` says it."""
    digest = hashlib.sha256()
    for file in found:
        digest.update(bytes.fromhex(files.of(file)))
    return digest.hexdigest()[:16]


def _folder(name: str, revision: str | None) -> Path | None:
    """Where a model lies here, if it does so in a folder."""
    if name == STARTER:
        return starter_folder()
    path = Path(name).expanduser()
    if path.exists():
        return path if path.is_dir() else None
    return cached_hub_model(name, revision) if HUB_ID.fullmatch(name) else None


def _lora_file(lora: Lora) -> Path | None:
    if not Path(lora.id).expanduser().exists():
        return None  # of the hub: to find it might fetch it
    return locate_file(lora.id, revision=lora.revision, weight_name=lora.weight_name)
