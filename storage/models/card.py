"""What can be known of a model without loading it: its configs and safetensors headers."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from storage.contract.errors import ModelError
from storage.contract.families import FAMILIES, Family, ModelCard, family_of

DEFAULTS_FILE = "rendermill.json"
"""Optional in a model's folder: ``{"num_inference_steps": 20, "guidance_scale": 4.0}``."""

_HEADER_LIMIT = 100 << 20  # safetensors' own limit
_PICKLES = ("*.bin", "*.ckpt", "*.pt", "*.pth")


class Defaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model's own defaults, where they differ from its family's."""

    num_inference_steps: int | None = None
    guidance_scale: float | None = None


def read_card(folder: Path, *, model: str, revision: str | None) -> ModelCard:
    """The card of the diffusers pipeline in `folder`; `ModelError` says what is missing."""
    index = _json(folder / "model_index.json", model)
    family = _family(index, model)
    denoiser = _json(folder / family.denoiser / "config.json", model)
    vae = _json(folder / "vae" / "config.json", model)
    scale = 2 ** (len(vae.get("block_out_channels", [0] * 4)) - 1)
    side = int(denoiser.get("sample_size") or 64) * scale
    defaults = _defaults(folder, model)
    parameters, weight_bytes = _weights(folder, family, model)
    return ModelCard(
        model=model,
        revision=revision,
        path=str(folder),
        pipeline=index["_class_name"],
        width=side,
        height=side,
        num_inference_steps=defaults.num_inference_steps or family.num_inference_steps,
        guidance_scale=(
            family.guidance_scale if defaults.guidance_scale is None else defaults.guidance_scale
        ),
        scheduler=str(index.get("scheduler", [None, ""])[1]),
        parameters=parameters,
        weight_bytes=weight_bytes,
        token_limit=_token_limit(folder, family, model),
    )


def _family(index: dict[str, Any], model: str) -> Family:
    pipeline = index.get("_class_name")
    family = family_of(str(pipeline))
    if family is None:
        known = ", ".join(name for one in FAMILIES for name in one.pipelines)
        raise ModelError(
            f"{model!r} is a {pipeline}, which this version cannot render; it can: {known}"
        )
    return family


def _json(path: Path, model: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ModelError(
            f"{model!r} is not a diffusers model: {path} is missing",
            hint="a model's folder holds model_index.json and a folder for each component",
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{model!r}: {path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{model!r}: {path} is not a JSON object")
    return content


def _defaults(folder: Path, model: str) -> Defaults:
    path = folder / DEFAULTS_FILE
    if not path.exists():
        return Defaults()
    try:
        return msgspec.json.decode(path.read_bytes(), type=Defaults)
    except (OSError, msgspec.DecodeError) as error:
        raise ModelError(f"{model!r}: {path}: {error}") from error


def _token_limit(folder: Path, family: Family, model: str) -> int:
    limits = [
        int(_json(folder / encoder / "config.json", model).get("max_position_embeddings", 77))
        for _, encoder in family.text_encoders
    ]
    return min(limits)


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
    """The component's safetensors files of one precision: the full one, if it is there."""
    files = sorted(folder.glob("*.safetensors"))
    full = [file for file in files if ".fp16." not in file.name and ".bf16." not in file.name]
    return full or files


def variant_of(folder: Path) -> str | None:
    """The variant diffusers must be asked for: None, or "fp16" if there is nothing else."""
    names = [file.name for file in weight_files(folder)]
    for variant in ("fp16", "bf16"):
        if names and all(f".{variant}" in name for name in names):
            return variant
    return None


def _parameters(file: Path) -> int:
    return sum(math.prod(shape) for shape in _shapes(file))


def _shapes(file: Path) -> Iterator[list[int]]:
    """Shapes of the tensors named in a safetensors header; `ModelError` if it is damaged."""
    try:
        with open(file, "rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > _HEADER_LIMIT:
                raise ValueError(f"its header claims {length} bytes")
            header = json.loads(stream.read(length))
        for name, tensor in header.items():
            if name != "__metadata__":
                yield tensor["shape"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise ModelError(f"{file} is not a safetensors file: {error}") from error
