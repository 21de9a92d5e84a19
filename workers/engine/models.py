"""A model as the engine sees it: its card, where its components lie, and what needs no device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from storage.contract.errors import ModelError, ModelUnusable
from storage.contract.items import GroupSpec
from storage.contract.models import ModelCard
from storage.models.card import read_card
from storage.models.hashes import combined
from storage.models.resolve import STARTER, locate
from storage.models.weights import stamp_of, weights_hash
from workers.engine import ip_adapters
from workers.engine.components import (
    Source,
    config_of,
    load_weightless,
    named_classes,
    read_index,
    source_alone,
    source_in,
)
from workers.engine.ip_adapters import image_encoder_folder, locate_ip_adapter
from workers.engine.loras import hash_lora
from workers.engine.single_file import folder_of

CONTROLNET: Final = "controlnet."
"""Components of this prefix are the group's ControlNets, by their place."""

IMAGE_ENCODER: Final = "image_encoder"


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model that is at hand."""

    card: ModelCard
    folder: Path
    stamp: str = ""  #: of what the card was read from

    @property
    def is_outdated(self) -> bool:
        """Whether its files, but for weights, are not those any more that the card tells of."""
        try:
            return self.stamp != _stamp(self.card.model, self.folder)
        except OSError:  # gone: finding it again says so
            return True

    @cached_property
    def weightless(self) -> Mapping[str, Any]:
        """Tokenizers, processors and the model's own scheduler."""
        return load_weightless(self.folder)

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """The pipeline's own settings in model_index.json."""
        index = read_index(self.folder)
        return {
            name: value
            for name, value in index.items()
            if not name.startswith("_") and not isinstance(value, list)
        }

    @cached_property
    def weighted(self) -> tuple[str, ...]:
        """Components with weights that model_index.json names."""
        names = named_classes(read_index(self.folder))
        return tuple(name for name in names if name not in self.weightless)

    def source(self, name: str, spec: GroupSpec, dtype: str) -> Source:
        """Where component `name` of a group lies, with the dtype it computes in."""
        if name.startswith(CONTROLNET):
            net = spec.controlnets[int(name.removeprefix(CONTROLNET))]
            return source_alone(_located(net.model, net.revision), dtype)
        if name == IMAGE_ENCODER and spec.ip_adapter is not None:
            return source_alone(image_encoder_folder(spec.ip_adapter), dtype)
        source = source_in(self.folder, name, dtype)
        if name == self.card.family.vae:
            return source_in(self.folder, name, self._vae_dtype(source, dtype))
        return source

    def configs(self, spec: GroupSpec, dtype: str) -> dict[str, Any]:
        """Configs of denoiser and VAE, and the pipeline's own settings."""
        family = self.card.family
        found: dict[str, Any] = dict(self.settings)
        for name in (family.denoiser, family.vae):
            found[name] = dict(config_of(self.source(name, spec, dtype)))
        return found

    def _vae_dtype(self, source: Source, dtype: str) -> str:
        """The family's, where the VAE overflows in half precision; some VAEs are mended."""
        wanted = self.card.family.decode_dtype
        if wanted is None or dtype == "float32":
            return dtype
        force = config_of(source).get("force_upcast")
        upcast = dtype == "float16" if force else force is None
        return wanted if upcast else dtype


def find_model(name: str, revision: str | None) -> Model:
    """The model of that name; `ModelUnusable` says what is missing."""
    folder = _located(name, revision)
    try:
        card = read_card(folder, model=name, revision=revision)
    except ModelError as error:
        raise ModelUnusable(error.message, hint=error.hint) from error
    return Model(card=card, folder=folder, stamp=_stamp(name, folder))


@dataclass(frozen=True, kw_only=True, slots=True)
class Hashes:
    """What was loaded, by its bytes."""

    weights: str  #: of everything together; 16 digits
    loras: dict[str, str]  #: of each LoRA's file, by its label


def hashes_of(model: Model, spec: GroupSpec) -> Hashes:
    """The hashes of what a group is rendered with.

    Without ControlNets, IP-Adapter and LoRAs that of the weights is the model's own.
    """
    family = model.card.family
    names = model.weighted if model.card.is_plain else family.components_of(spec.kind)
    hashes = [weights_hash(model.folder, names)]
    for number in range(len(spec.controlnets)):
        folder = model.source(f"{CONTROLNET}{number}", spec, "float32").folder
        hashes.append(weights_hash(folder, [""]))
    if spec.ip_adapter is not None:
        hashes.append(weights_hash(image_encoder_folder(spec.ip_adapter), [""]))
        hashes.append(ip_adapters.weights_hash(locate_ip_adapter(spec.ip_adapter)))
    loras = {lora.label: hash_lora(lora) for lora in spec.loras}
    return Hashes(weights=combined(hashes, loras, spec), loras=loras)


def _stamp(name: str, folder: Path) -> str:
    """Of all configs and vocabularies; of a checkpoint that is one file, of that file."""
    here = [] if name == STARTER else [Path(name).expanduser()]
    configs = sorted((*folder.glob("*.json"), *folder.glob("*/*.json")))
    return stamp_of([*(path for path in here if path.is_file()), *configs])


def _located(name: str, revision: str | None) -> Path:
    try:
        found = locate(name, revision)
    except ModelError as error:
        raise ModelUnusable(error.message, hint=error.hint) from error
    return folder_of(found) if found.is_file() else found
