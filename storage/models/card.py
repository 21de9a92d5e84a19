"""What can be known of a model without loading it: its configs and safetensors headers."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from storage.contract.errors import ModelError
from storage.contract.families import FAMILIES, Family, ModelCard, family_of

DEFAULTS_FILE = "rendermill.json"
"""Optional in a model's folder: ``{"num_inference_steps": 20, "guidance_scale": 4.0}``."""

_HEADER_LIMIT = 100 << 20  # safetensors' own limit
_PICKLES = ("*.bin", "*.ckpt", "*.pt", "*.pth")
_Kind = TypeVar("_Kind")


class Defaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model's own defaults, where they differ from its family's."""

    num_inference_steps: int | None = None
    guidance_scale: float | None = None


def read_card(folder: Path, *, model: str, revision: str | None) -> ModelCard:
    """The card of the diffusers pipeline in `folder`; `ModelError` says what is missing."""
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
    parameters, weight_bytes = _weights(folder, family, model)
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


class _Tensor(msgspec.Struct):
    """What is read of a tensor's entry in a safetensors header."""

    shape: tuple[int, ...]


def _family(index: _Index, model: str) -> Family:
    family = family_of(index.pipeline)
    if family is None:
        known = ", ".join(name for one in FAMILIES for name in one.pipelines)
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


def _weights(folder: Path, family: Family, model: str) -> tuple[dict[str, int], int]:
    """Parameters per component, and bytes of all weight files."""
    parameters = {}
    weight_bytes = 0
    for component in family.components:
        files = weight_files(folder / component)
        if not files:
            raise ModelError(_no_weights(folder / component, model))
        parameters[component] = sum(map(_parameters, files))
        weight_bytes += sum(file.stat().st_size for file in files)
    return parameters, weight_bytes


def _no_weights(folder: Path, model: str) -> str:
    if any(next(folder.glob(pattern), None) for pattern in _PICKLES):
        return (
            f"{model!r} has only pickled weights in {folder.name}, which can run code when they"
            " are loaded and are refused; use a safetensors revision of it, or convert it"
        )
    return f"{model!r} has no safetensors weights in {folder}"


def weight_files(folder: Path) -> list[Path]:
    """The component's safetensors files of one variant: the plain one, if it is there."""
    variant = variant_of(folder)
    return [file for file in sorted(folder.glob("*.safetensors")) if _variant(file) == variant]


def variant_of(folder: Path) -> str | None:
    """The variant diffusers must be asked for: None, or "fp16" if there is nothing else."""
    found = [_variant(file) for file in folder.glob("*.safetensors")]
    named = sorted(name for name in found if name is not None)
    if None in found or not named:
        return None
    return next((known for known in ("fp16", "bf16") if known in named), named[0])


def _variant(file: Path) -> str | None:
    """What stands between a file's first dot and its shard number or suffix.

    ``model.fp16-00001-of-00002.safetensors`` is of the variant "fp16"; Stable Diffusion 1.5 also
    has "non_ema", the weights without their moving average.
    """
    middle = file.name.partition(".")[2].removesuffix("safetensors").rstrip(".")
    return re.sub(r"-\d+-of-\d+$", "", middle) or None


def _parameters(file: Path) -> int:
    return sum(math.prod(shape) for shape in _shapes(file))


def _shapes(file: Path) -> Iterator[tuple[int, ...]]:
    """Shapes of the tensors named in a safetensors header; `ModelError` if it is damaged."""
    try:
        with open(file, "rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > _HEADER_LIMIT:
                raise ValueError(f"its header claims {length} bytes")
            header = json.loads(stream.read(length))
        for name, tensor in header.items():
            if name != "__metadata__":
                yield msgspec.convert(tensor, _Tensor).shape
    except (OSError, ValueError, AttributeError, RecursionError, struct.error) as error:
        raise ModelError(f"{file} is not a safetensors file: {error}") from error
