"""Loading a model's components, strictly: safetensors only, every weight accounted for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.contract.errors import ModelError, ModelUnusable
from storage.contract.families import Family
from storage.models.card import read_card
from storage.models.resolve import locate
from storage.models.weights import variant_of, weights_hash


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A pipeline with all its components, and what is known of it."""

    name: str
    family: Family
    pipeline: Any
    dtype: str
    weights: str
    token_limit: int


def load(model: str, revision: str | None, *, dtype: str, device: str) -> LoadedModel:
    """Load a model whole onto `device`; `ModelUnusable` says which part is at fault."""
    try:
        folder = locate(model, revision)
        card = read_card(folder, model=model, revision=revision)
    except ModelError as error:
        raise ModelUnusable(error.message, hint=error.hint) from error
    import torch

    try:
        pipeline = _assemble(folder, card.pipeline, getattr(torch, dtype))
    except ModelUnusable:
        raise
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise ModelUnusable(f"{model}: {_first_line(error)}") from error
    _place(pipeline, device)
    return LoadedModel(
        name=model,
        family=card.family,
        pipeline=pipeline,
        dtype=dtype,
        weights=weights_hash(folder, card.family.components),
        token_limit=card.token_limit,
    )


def _assemble(folder: Path, pipeline_class: str, dtype: Any) -> Any:
    """Load each component by its own class, so that its loading report can be read."""
    import diffusers
    import transformers

    transformers.utils.logging.disable_progress_bar()
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
    parts = {
        "vae": (diffusers.AutoencoderKL, folder / "vae"),
        "unet": (diffusers.UNet2DConditionModel, folder / "unet"),
        "text_encoder": (transformers.CLIPTextModel, folder / "text_encoder"),
    }
    loaded = {name: _component(kind, place, dtype) for name, (kind, place) in parts.items()}
    scheduler = _own_scheduler(folder / "scheduler")
    pipeline = getattr(diffusers, pipeline_class)(
        tokenizer=tokenizer,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **loaded,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _own_scheduler(folder: Path) -> Any:
    import diffusers

    config = json.loads((folder / "scheduler_config.json").read_bytes())
    return getattr(diffusers, config["_class_name"]).from_config(config)


def _component(kind: Any, folder: Path, dtype: Any) -> Any:
    component, report = kind.from_pretrained(
        folder,
        dtype=dtype,
        use_safetensors=True,
        variant=variant_of(folder),
        output_loading_info=True,
    )
    missing = sorted(report.get("missing_keys", ()))
    wrong = sorted(str(key) for key in report.get("mismatched_keys", ()))
    if missing or wrong:
        raise ModelUnusable(
            f"{folder}: the weights do not belong to this model:"
            f" {len(missing)} tensors are missing, {len(wrong)} have another shape"
            f" (first: {(missing + wrong)[0]})"
        )
    if any(parameter.is_meta for parameter in component.parameters()):
        raise ModelUnusable(f"{folder}: some weights were not loaded")
    return component.eval().requires_grad_(False)


def _place(pipeline: Any, device: str) -> None:
    import torch

    for name in ("unet", "vae"):
        # Convolutions on channels-last data need no reordering, on CPUs and on GPUs.
        getattr(pipeline, name).to(memory_format=torch.channels_last)
    pipeline.to(device)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
