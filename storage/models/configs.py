"""What is read of a model's config files, and nothing more of them.

Unknown fields are passed over: each family and each version of diffusers has its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from storage.contract.errors import ModelError

DEFAULTS_FILE: Final = "rendermill.json"
"""Optional in a model's folder: ``{"num_inference_steps": 20, "guidance_scale": 4.0}``."""

CLIP_LIMIT: Final = 1024
"""Positions above this are those of a language model, which says nothing of a prompt's limit."""

_Kind = TypeVar("_Kind")


class Defaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model's own defaults, where they differ from its family's."""

    num_inference_steps: int | None = None
    guidance_scale: float | None = None


class Index(msgspec.Struct, frozen=True):
    """What is read of model_index.json."""

    pipeline: str = "None"
    scheduler: str = ""
    classes: dict[str, str] = {}  #: class by component
    absent: frozenset[str] = frozenset()  #: components that the model says it does not have


class Scheduler(msgspec.Struct):
    """What is read of the scheduler's config."""

    prediction_type: str | None = None
    stochastic_sampling: bool = False


class Denoiser(msgspec.Struct):
    """What is read of the denoiser's config."""

    sample_size: int | tuple[int, int] | None = None
    guidance_embeds: bool | None = None

    def latent_size(self, default: int) -> tuple[int, int]:
        """Height and width, in latents; `default` where the config does not say."""
        size = self.sample_size or default
        return size if isinstance(size, tuple) else (size, size)


class Vae(msgspec.Struct):
    """What is read of the decoder's config, whichever class it is of."""

    block_out_channels: tuple[int, ...] = ()  # AutoencoderKL, AutoencoderKLFlux2
    encoder_block_out_channels: tuple[int, ...] = ()  # AutoencoderDC
    dim_mult: tuple[int, ...] = ()  # AutoencoderKLQwenImage
    force_upcast: bool = False
    sample_size: int | tuple[int, int] | None = None

    @property
    def scale(self) -> int | None:
        """Pixels per latent; None if the config does not say."""
        levels = self.block_out_channels or self.encoder_block_out_channels or self.dim_mult
        return 2 ** (len(levels) - 1) if levels else None


class TextEncoder(msgspec.Struct):
    """What is read of a text encoder's config."""

    max_position_embeddings: int | None = None
    num_hidden_layers: int | None = None

    @property
    def limits_prompts(self) -> bool:
        """Whether its positions are a prompt's limit, as CLIP's are."""
        positions = self.max_position_embeddings
        return positions is not None and positions <= CLIP_LIMIT


def read_config(path: Path, model: str, kind: type[_Kind]) -> _Kind:
    """A config file as `kind`; `ModelError` names the file at fault."""
    try:
        return msgspec.convert(json.loads(path.read_bytes()), kind)
    except FileNotFoundError as error:
        raise ModelError(
            f"{model!r} is not a diffusers model: {path} is missing",
            hint="a model's folder holds model_index.json and a folder for each component",
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{model!r}: {path} cannot be read: {error}") from error


class _RawIndex(msgspec.Struct):
    pipeline: str = msgspec.field(name="_class_name", default="None")
    scheduler: tuple[str | None, str] = (None, "")


def read_index(folder: Path, model: str) -> Index:
    """What model_index.json of the pipeline in `folder` says."""
    path = folder / "model_index.json"
    raw = read_config(path, model, _RawIndex)
    entries: dict[str, Any] = read_config(path, model, dict)
    classes, absent = {}, set()
    for name, value in entries.items():
        if isinstance(value, list) and len(value) == 2:
            if value[1] is None:
                absent.add(name)
            elif isinstance(value[1], str):
                classes[name] = value[1]
    return Index(
        pipeline=raw.pipeline,
        scheduler=raw.scheduler[1],
        classes=classes,
        absent=frozenset(absent),
    )


def read_defaults(folder: Path, model: str) -> Defaults:
    """A model's own defaults, if it brings some."""
    path = folder / DEFAULTS_FILE
    if not path.exists():
        return Defaults()
    try:
        return msgspec.json.decode(path.read_bytes(), type=Defaults)
    except (OSError, msgspec.DecodeError) as error:
        raise ModelError(f"{model!r}: {path}: {error}") from error


def read_licence(folder: Path) -> str | None:
    """The licence that the model card (README.md) names in its front matter."""
    try:
        lines = (folder / "README.md").read_text(errors="replace").splitlines()
    except OSError:
        return None
    if not lines or lines[0].strip() != "---":
        return None
    said = {}
    for line in lines[1:]:
        if line.strip() == "---":
            break
        name, colon, value = line.partition(":")
        if colon and not name.startswith((" ", "-")):
            said[name] = value.strip().strip("'\"")
    licence = said.get("license")
    if licence == "other":
        licence = said.get("license_name") or licence
    return licence or None
