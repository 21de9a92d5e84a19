"""Parameters of what groups name beside their model, where it lies on this machine.

What would have to be asked of the hub is left to the estimate's guesses: a manifest may name
thousands of LoRAs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

from scheduler.estimate import Companions
from storage.contract.errors import ModelError
from storage.contract.items import ControlNet, GroupSpec, IpAdapter, Lora
from storage.contract.models import ModelCard
from storage.models.files import locate_file
from storage.models.weights import FolderWeights, read_shapes

Describe = Callable[[str, str | None], ModelCard]


class Beside:
    """Looks companions up, each once."""

    def __init__(self, describe: Describe) -> None:
        """`describe` gives the card of a second stage's model."""
        self._describe = describe
        self._lora = cache(_lora)
        self._controlnet = cache(_controlnet)

    def of(self, spec: GroupSpec) -> Companions:
        """What is known of the group's companions."""
        adapter, encoder = _ip_adapter(spec.ip_adapter) if spec.ip_adapter else (None, None)
        return Companions(
            controlnets=_sum([self._controlnet(net) for net in spec.controlnets]),
            loras=_sum([self._lora(lora) for lora in spec.loras]),
            ip_adapter=adapter,
            image_encoder=encoder,
            upscaler=self._upscaler(spec),
        )

    def _upscaler(self, spec: GroupSpec) -> ModelCard | None:
        if spec.upscaler is None or not _is_here(spec.upscaler.model):
            return None
        try:
            return self._describe(spec.upscaler.model, spec.upscaler.revision)
        except ModelError:
            return None  # the worker will say what is wrong with it


def _sum(counts: list[int | None]) -> int | None:
    """None if nothing is asked, or not all is known."""
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None


def _lora(lora: Lora) -> int | None:
    if not _is_here(lora.id):
        return None
    try:
        return _parameters(locate_file(lora.id, weight_name=lora.weight_name))
    except ModelError:
        return None


def _controlnet(net: ControlNet) -> int | None:
    if not _is_here(net.model):
        return None
    return _folder_parameters(Path(net.model))


def _ip_adapter(adapter: IpAdapter) -> tuple[int | None, int | None]:
    """Of its own weights, and of the image encoder that lies beside them."""
    if not _is_here(adapter.model):
        return None, None
    folder = Path(adapter.model) / adapter.subfolder
    try:
        own = _parameters(folder / adapter.weight_name)
    except ModelError:
        own = None
    return own, _folder_parameters(folder / "image_encoder")


def _folder_parameters(folder: Path) -> int | None:
    try:
        files = FolderWeights(folder).weights("")
    except ModelError:
        return None
    return sum(file.parameters for file in files) or None


def _parameters(file: Path) -> int:
    return sum(math.prod(shape) for shape in read_shapes(file).values())


def _is_here(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):
        return False
