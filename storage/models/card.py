"""What can be known of a model without loading it: its configs and safetensors headers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

import msgspec

from storage.contract.errors import ModelError
from storage.contract.families.record import Family
from storage.contract.families.registry import FAMILIES, family_of
from storage.contract.models import ModelCard
from storage.models.weights import FolderWeights, WeightSource

DEFAULTS_FILE = "rendermill.json"
"""Optional in a model's folder: ``{"num_inference_steps": 20, "guidance_scale": 4.0}``."""

_Kind = TypeVar("_Kind")


class Defaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model's own defaults, where they differ from its family's."""

    num_inference_steps: int | None = None
    guidance_scale: float | None = None


def read_card(
    folder: Path, *, model: str, revision: str | None, source: WeightSource | None = None
) -> ModelCard:
    """The card of the diffusers pipeline in `folder`; `ModelError` says what is missing.

    `source` tells of weights that do not lie in the folder yet.
    """
    index = _config(folder / "model_index.json", model, _Index)
    family = _family(index, model)
    denoiser = _config(folder / family.denoiser / "config.json", model, _Denoiser)
    vae = _config(folder / "vae" / "config.json", model, _Vae)
    encoders = [
        _config(folder / encoder / "config.json", model, _TextEncoder)
        for _, encoder in family.text_encoders
    ]
    scale = 2 ** (len(vae.block_out_channels) - 1)
    height, width = denoiser.latent_size
    defaults = _defaults(folder, model)
    parameters, weight_bytes = _weights(source or FolderWeights(folder), family, model)
    return ModelCard(
        model=model,
        revision=revision,
        path=str(folder),
        pipeline=index.pipeline,
        width=width * scale,
        height=height * scale,
        num_inference_steps=defaults.num_inference_steps or family.num_inference_steps,
        guidance_scale=(
            family.guidance_scale if defaults.guidance_scale is None else defaults.guidance_scale
        ),
        scheduler=index.scheduler[1],
        parameters=parameters,
        weight_bytes=weight_bytes,
        token_limit=min(encoder.max_position_embeddings for encoder in encoders),
        text_layers=min(encoder.num_hidden_layers for encoder in encoders),
    )


class _Index(msgspec.Struct):
    """What is read of model_index.json."""

    pipeline: str = msgspec.field(name="_class_name", default="None")
    scheduler: tuple[str | None, str] = (None, "")


class _Denoiser(msgspec.Struct):
    """What is read of the denoiser's config."""

    sample_size: int | tuple[int, int] | None = None

    @property
    def latent_size(self) -> tuple[int, int]:
        """Height and width, in latents."""
        size = self.sample_size or 64
        return size if isinstance(size, tuple) else (size, size)


class _Vae(msgspec.Struct):
    """What is read of the decoder's config."""

    block_out_channels: tuple[int, ...] = (0, 0, 0, 0)


class _TextEncoder(msgspec.Struct):
    """What is read of a text encoder's config."""

    max_position_embeddings: int = 77
    num_hidden_layers: int = 12


def _family(index: _Index, model: str) -> Family:
    family = family_of(index.pipeline)
    if family is None:
        known = ", ".join(name for one in FAMILIES for name in one.covers)
        raise ModelError(
            f"{model!r} is a {index.pipeline}, which this version cannot render; it can: {known}"
        )
    return family


def _config(path: Path, model: str, kind: type[_Kind]) -> _Kind:
    try:
        return msgspec.convert(json.loads(path.read_bytes()), kind)
    except FileNotFoundError as error:
        raise ModelError(
            f"{model!r} is not a diffusers model: {path} is missing",
            hint="a model's folder holds model_index.json and a folder for each component",
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{model!r}: {path} cannot be read: {error}") from error


def _defaults(folder: Path, model: str) -> Defaults:
    path = folder / DEFAULTS_FILE
    if not path.exists():
        return Defaults()
    try:
        return msgspec.json.decode(path.read_bytes(), type=Defaults)
    except (OSError, msgspec.DecodeError) as error:
        raise ModelError(f"{model!r}: {path}: {error}") from error


def _weights(source: WeightSource, family: Family, model: str) -> tuple[dict[str, int], int]:
    """Parameters per component, and bytes of all weight files."""
    parameters = {}
    weight_bytes = 0
    for component in family.components:
        files = source.weights(component)
        if not files:
            raise ModelError(_no_weights(source, component, model))
        parameters[component] = sum(file.parameters for file in files)
        weight_bytes += sum(file.size for file in files)
    return parameters, weight_bytes


def _no_weights(source: WeightSource, component: str, model: str) -> str:
    if source.has_pickles(component):
        return (
            f"{model!r} has only pickled weights in {component}, which can run code when they"
            " are loaded and are refused; use a safetensors revision of it, or convert it"
        )
    return f"{model!r} has no safetensors weights in {component}"
