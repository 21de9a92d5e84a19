"""A case rendered phase by phase, and by diffusers' own call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from storage.contract.items import INPAINT, GroupSpec, Item
from tests.models.phases import Phased, drawing, generators, mask, open_whole, to_bytes
from tests.models.transformer_cases import Case
from workers.engine.families.base import Inputs
from workers.engine.families.classic import make_scheduler
from workers.engine.loras import lay, lift

Change = Callable[[Any], None]


def nothing(_whole: Any) -> None:
    """Changes nothing."""


def inputs_of(spec: GroupSpec, count: int) -> list[Inputs]:
    size = (spec.width, spec.height)
    return [
        Inputs(
            image=drawing(n, *size) if spec.needs_picture else None,
            mask_image=mask(n, *size) if spec.kind == INPAINT else None,
        )
        for n in range(count)
    ]


class Watched:
    """An adapter whose latents can be seen."""

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter
        self.latents: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    def denoise(self, *given: Any) -> Any:
        self.latents = self._adapter.denoise(*given)
        return self.latents


def opened(folder: Path, case: Case, pipeline: str | None = None) -> Any:
    return open_whole(folder, pipeline, **dict.fromkeys(case.absent))


def phased(
    folder: Path,
    case: Case,
    spec: GroupSpec,
    items: Sequence[Item],
    inputs: Sequence[Inputs],
    change: Change = nothing,
) -> tuple[torch.Tensor, np.ndarray]:
    """Latents and pictures of the phases, of components after `change`."""
    whole = opened(folder, case)
    change(whole)
    run = Phased(whole, spec)
    dressed: dict[str, Any] = {}

    def dress(name: str, component: Any) -> None:
        lift(dressed)
        dressed.clear()
        if spec.loras and name != "vae":
            lay({name: component}, spec.loras, run.family)
            dressed[name] = component

    run.dress = dress
    watched = Watched(run.adapter)
    run.adapter = watched
    pictures = run.pictures(items, inputs)
    family = run.family
    usual = family.inpaint_strength if spec.kind == INPAINT else family.strength
    usual = usual if spec.needs_picture else 1.0
    share = usual if spec.strength is None else spec.strength
    done = spec.num_inference_steps - int(spec.num_inference_steps * (1 - share))
    assert run.steps == list(range(1, done + 1))
    assert pictures.shape == (len(items), spec.height, spec.width, 3)
    assert pictures.std() > 5  # not of one colour
    return watched.latents, pictures


def ordinary(
    folder: Path,
    case: Case,
    spec: GroupSpec,
    items: Sequence[Item],
    inputs: Sequence[Inputs],
    change: Change = nothing,
) -> tuple[torch.Tensor, np.ndarray]:
    """Latents and pictures of diffusers' own calls, of a pipeline after `change`."""
    call: dict[str, Any] = {
        "prompt": [item.prompt for item in items],
        "width": spec.width,
        "height": spec.height,
        "num_inference_steps": spec.num_inference_steps,
        **case.call,
    }
    if case.negatives:
        call["negative_prompt"] = [item.negative_prompt for item in items]
    if "qwen" not in case.name:
        call["guidance_scale"] = spec.guidance_scale
    if spec.needs_picture:
        call["image"] = [slot.image for slot in inputs]
    if spec.kind == INPAINT:
        call["mask_image"] = [slot.mask_image for slot in inputs]
    if spec.strength is not None:
        call["strength"] = spec.strength
    whole = opened(folder, case, case.pipeline)
    change(whole)
    results = []
    for output_type in ("latent", "np"):
        own_sampler(whole, spec)
        # Z-Image writes into the list of prompts it is given.
        texts = {name: list(call[name]) for name in ("prompt", "negative_prompt") if name in call}
        given = call | texts
        made = whole(generator=generators(items), output_type=output_type, **given)
        results.append(made.images)
    latents, pictures = results
    return latents, to_bytes(pictures)


def own_sampler(whole: Any, spec: GroupSpec) -> None:
    whole.scheduler = make_scheduler(spec.scheduler, whole.scheduler)


def ordinary_of_each(
    folder: Path,
    case: Case,
    spec: GroupSpec,
    items: Sequence[Item],
    inputs: Sequence[Inputs],
    change: Change = nothing,
) -> tuple[torch.Tensor, np.ndarray]:
    """The same, by a call for each image."""
    results = [
        ordinary(folder, case, spec, [item], [slot], change)
        for item, slot in zip(items, inputs, strict=True)
    ]
    return torch.cat([latents for latents, _ in results]), np.concatenate([p for _, p in results])


def largest_difference(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())
