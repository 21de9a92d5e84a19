"""The card of a checkpoint that is one file, by its header; and where its configs come from."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from storage.contract.errors import ModelError
from storage.contract.families.plain import plain_family
from storage.contract.families.registry import family_of
from storage.contract.models import ModelCard
from storage.models.bases import BASES
from storage.models.originals import ORIGINALS, Original, recognise
from storage.models.weights import PICKLE_SUFFIXES, read_shapes

_LAYERS: Final = {"v1": 12, "inpainting": 12, "v2": 23, "inpainting_v2": 23, "upscale": 23}
"""Of the text encoders, which headers tell only by counting."""


def is_model_file(path: Path) -> bool:
    """Whether a file's name says that it holds weights."""
    return path.suffix.casefold() in (".safetensors", *PICKLE_SUFFIXES)


def original_in(file: Path, model: str) -> Original:
    """Which kind of checkpoint the file is; `ModelError` if it is none that can be rendered."""
    if file.suffix.casefold() in PICKLE_SUFFIXES:
        raise ModelError(
            f"{model!r} has pickled weights, which can run code when they are loaded and are"
            " refused; use a safetensors file of it, or convert it"
        )
    shapes = read_shapes(file)
    found = recognise(shapes)
    if found is None:
        known = ", ".join(ORIGINALS)
        raise ModelError(
            f"{model!r}: {file} is no checkpoint of a known kind ({known})",
            hint="a LoRA or ControlNet is named in `loras` or `controlnets`, not as the model",
        )
    if missing := found.missing(shapes):
        raise ModelError(
            f"{model!r}: {file} is a {found.name} checkpoint without {', '.join(missing)}",
            hint=f"name a diffusers folder or hub id such as {found.base}, which has all parts",
        )
    return found


def config_folder(file: Path) -> Path | None:
    """The folder beside the file, of its name, with a pipeline's configs; None if there is none."""
    folder = file.with_suffix("")
    return folder if (folder / "model_index.json").is_file() else None


def has_configs(original: Original) -> bool:
    """Whether this package knows the configs of that kind."""
    return original.name in BASES


def read_file_card(file: Path, *, model: str) -> ModelCard:
    """The card of the checkpoint in `file`; `ModelError` says what is wrong with it."""
    original = original_in(file, model)
    parameters = original.parameters(read_shapes(file))
    family = family_of(original.pipeline) or plain_family(original.pipeline, tuple(parameters))
    size = file.stat().st_size
    return ModelCard(
        model=model,
        revision=None,
        path=str(file),
        pipeline=original.pipeline,
        width=original.side,
        height=original.side,
        num_inference_steps=family.num_inference_steps,
        guidance_scale=family.guidance_scale,
        scheduler=_scheduler(original),
        parameters=parameters,
        weight_bytes=2 * size,  # once more for the copy in diffusers' layout
        token_limit=family.token_limit,
        text_layers=_LAYERS.get(original.name, 12),
        latent_scale=original.latent_scale,
        prediction_type=original.prediction_type,
        force_upcast=original.force_upcast,
    )


def _scheduler(original: Original) -> str:
    if original.name in BASES:
        return str(BASES[original.name][1]["scheduler"]["_class_name"])
    return "FlowMatchEulerDiscreteScheduler"
