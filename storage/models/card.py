"""What can be known of a model without loading it: its configs and safetensors headers."""

from __future__ import annotations

from pathlib import Path
from typing import Final, TypeVar

from storage.contract.errors import ModelError
from storage.contract.families.plain import plain_family, renders_images
from storage.contract.families.record import Family, Guidance
from storage.contract.families.registry import FAMILIES, family_of
from storage.contract.models import ModelCard
from storage.models.configs import (
    DEFAULTS_FILE,
    Denoiser,
    Index,
    Scheduler,
    TextEncoder,
    Vae,
    read_config,
    read_defaults,
    read_index,
    read_licence,
)
from storage.models.weights import (
    FolderWeights,
    WeightFile,
    WeightSource,
    streamed_parameters,
)

_Kind = TypeVar("_Kind")

CHECKER: Final = "safety_checker"

_NO_WEIGHTS: Final = ("Tokenizer", "Processor", "Scheduler", "Extractor")
"""How the classes end that have nothing to load onto a device."""

DISTILLED_STEPS: Final = 4
"""Of a model whose family embeds guidance, and that was distilled without."""


def read_card(
    folder: Path, *, model: str, revision: str | None, source: WeightSource | None = None
) -> ModelCard:
    """The card of the diffusers pipeline in `folder`; `ModelError` says what is missing.

    `source` tells of weights that do not lie in the folder yet.
    """
    index = read_index(folder, model)
    source = source or FolderWeights(folder)
    family = _family(index, model)
    files = _weights(source, index, family, model)
    denoiser, vae, limit, layers = _dimensions(folder, index, family, model)
    scale = vae.scale or family.latent_scale
    height, width = denoiser.latent_size(family.side // scale)
    steps, guidance = _defaults(folder, model, family, denoiser)
    return ModelCard(
        model=model,
        revision=revision,
        path=str(folder),
        pipeline=index.pipeline,
        width=width * scale,
        height=height * scale,
        num_inference_steps=steps,
        guidance_scale=guidance,
        scheduler=index.scheduler,
        parameters={name: sum(one.parameters for one in found) for name, found in files.items()},
        weight_bytes=sum(one.size for found in files.values() for one in found),
        token_limit=limit,
        text_layers=layers,
        latent_scale=scale,
        prediction_type=_prediction(folder, model),
        licence=read_licence(folder),
        has_safety_checker=CHECKER in index.classes,
        force_upcast=vae.force_upcast,
        classes={name: index.classes[name] for name in files if name in index.classes},
        stored_bytes={name: sum(one.size for one in found) for name, found in files.items()},
        streamed={name: streamed_parameters(found) for name, found in files.items()},
    )


def _family(index: Index, model: str) -> Family:
    """The family's record; one that fits any text-to-image pipeline if no family covers it."""
    family = family_of(index.pipeline)
    if family is not None:
        return family
    if renders_images(index.pipeline) and _weighted(index):
        return plain_family(index.pipeline, tuple(_weighted(index)))
    known = ", ".join(name for one in FAMILIES for name in one.covers)
    raise ModelError(
        f"{model!r} is a {index.pipeline}, which this version cannot render; it can: {known}"
    )


def _dimensions(
    folder: Path, index: Index, family: Family, model: str
) -> tuple[Denoiser, Vae, int, int]:
    """The denoiser's and the VAE's config, the token limit, and the text encoder's layers."""
    named = [name for _, name in family.text_encoders if name not in index.absent]
    encoders = [_config(folder, name, TextEncoder, family, model) for name in named]
    clips = [one for one in encoders if one.limits_prompts]
    limit = min((one.max_position_embeddings or 0 for one in clips), default=family.token_limit)
    layers = min((one.num_hidden_layers or 12 for one in clips or encoders), default=12)
    return (
        _config(folder, family.denoiser, Denoiser, family, model),
        _config(folder, family.vae, Vae, family, model),
        limit,
        layers,
    )


def _config(folder: Path, name: str, kind: type[_Kind], family: Family, model: str) -> _Kind:
    path = folder / name / "config.json"
    if family.covers or path.exists():
        return read_config(path, model, kind)
    return kind()  # of a model no record covers it is not known that these are its components


def _defaults(folder: Path, model: str, family: Family, denoiser: Denoiser) -> tuple[int, float]:
    """Steps and guidance scale: the model's own, or what its kind takes, or its family's."""
    own = read_defaults(folder, model)
    steps, guidance = family.num_inference_steps, family.guidance_scale
    if family.guidance is Guidance.EMBEDDED and denoiser.guidance_embeds is False:
        steps, guidance = DISTILLED_STEPS, 0.0
    return (
        own.num_inference_steps or steps,
        guidance if own.guidance_scale is None else own.guidance_scale,
    )


def _prediction(folder: Path, model: str) -> str | None:
    """What the scheduler's config says is predicted; refuses a scheduler no seed decides."""
    path = folder / "scheduler" / "scheduler_config.json"
    if not path.exists():
        return None
    scheduler = read_config(path, model, Scheduler)
    if scheduler.stochastic_sampling:
        raise ModelError(
            f"{model!r}: its scheduler draws noise at every step that no seed decides"
            " (stochastic_sampling), so no picture of it could be made again",
            hint=f"set it to false in {path}, in a folder of your own",
        )
    return scheduler.prediction_type


def _weights(
    source: WeightSource, index: Index, family: Family, model: str
) -> dict[str, list[WeightFile]]:
    """Weight files by component: all that the family needs, and what else the model brings."""
    needed = [name for name in family.components if name not in index.absent]
    if not family.covers:
        needed = _weighted(index)
    further = sorted({name for names in family.extras.values() for name in names})
    files = {}
    for component in dict.fromkeys((*needed, *further)):
        if found := source.weights(component):
            files[component] = found
        elif component in needed:
            raise ModelError(_no_weights(source, component, model))
    return files


def _weighted(index: Index) -> list[str]:
    """Components that have something to load, as far as their classes tell."""
    return [
        name
        for name, kind in index.classes.items()
        if name != CHECKER and not kind.removesuffix("Fast").endswith(_NO_WEIGHTS)
    ]


def _no_weights(source: WeightSource, component: str, model: str) -> str:
    if source.has_pickles(component):
        return (
            f"{model!r} has only pickled weights in {component}, which can run code when they"
            " are loaded and are refused; use a safetensors revision of it, or convert it"
        )
    return f"{model!r} has no safetensors weights in {component}"


__all__ = ["DEFAULTS_FILE", "read_card"]
