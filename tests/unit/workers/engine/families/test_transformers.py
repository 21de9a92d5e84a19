"""Each kind of task of the transformer families against diffusers' own call, on the CPU.

In float32 the phases give the very latents and bytes of an ordinary call of the same batch. Of
Qwen-Image and Z-Image, whose texts have different lengths, they give those of an ordinary call of
each image alone, whatever the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from storage.contract.items import INPAINT, GroupSpec, Item
from tests.models.phases import Phased, drawing, generators, mask, open_whole, to_bytes
from tests.models.transformer_cases import (
    CASES,
    GUIDED,
    ITEMS,
    PICTURED,
    Case,
    folder_of,
    make_spec,
)
from workers.engine.families.base import Inputs


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
    folder: Path, case: Case, spec: GroupSpec, items: Sequence[Item], inputs: list[Inputs]
) -> tuple[torch.Tensor, np.ndarray]:
    """Latents and pictures of the phases."""
    run = Phased(opened(folder, case), spec)
    watched = Watched(run.adapter)
    run.adapter = watched
    pictures = run.pictures(items, inputs)
    usual = 0.6 if spec.needs_picture else 1.0
    share = usual if spec.strength is None else spec.strength
    done = spec.num_inference_steps - int(spec.num_inference_steps * (1 - share))
    assert run.steps == list(range(1, done + 1))
    assert pictures.shape == (len(items), spec.height, spec.width, 3)
    assert pictures.std() > 5  # not of one colour
    return watched.latents, pictures


def ordinary(
    folder: Path, case: Case, spec: GroupSpec, items: Sequence[Item], inputs: Sequence[Inputs]
) -> tuple[torch.Tensor, np.ndarray]:
    """Latents and pictures of diffusers' own calls."""
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
    from workers.engine.families.classic import make_scheduler

    whole.scheduler = make_scheduler(spec.scheduler, whole.scheduler)


def ordinary_of_each(
    folder: Path, case: Case, spec: GroupSpec, items: Sequence[Item], inputs: list[Inputs]
) -> tuple[torch.Tensor, np.ndarray]:
    results = [
        ordinary(folder, case, spec, [item], [slot])
        for item, slot in zip(items, inputs, strict=True)
    ]
    return torch.cat([latents for latents, _ in results]), np.concatenate([p for _, p in results])


def largest_difference(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@pytest.mark.parametrize("case", CASES + PICTURED, ids=str)
def test_the_phases_give_the_pictures_of_an_ordinary_call(
    tmp_path_factory: pytest.TempPathFactory, case: Case
) -> None:
    folder = folder_of(case, tmp_path_factory)
    spec = make_spec(case, folder)
    inputs = inputs_of(spec, len(ITEMS))
    items = ITEMS
    if "klein" in case.name:  # whose ordinary call knows only the empty one
        items = [msgspec.structs.replace(item, negative_prompt="") for item in ITEMS]

    latents, pictures = phased(folder, case, spec, items, inputs)
    own_call = ordinary_of_each if case.alone else ordinary
    own_latents, own_pictures = own_call(folder, case, spec, items, inputs)

    if "klein" not in case.name:  # whose own latents have the VAE's statistics in them
        assert torch.equal(latents, own_latents)
    if case.alone:  # decoded as a batch here
        assert largest_difference(pictures, own_pictures) <= 1
    else:
        assert np.array_equal(pictures, own_pictures)


def test_z_image_with_guidance_differs_from_an_ordinary_call_by_rounding_only(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = folder_of(GUIDED, tmp_path_factory)
    spec = make_spec(GUIDED, folder)
    inputs = inputs_of(spec, len(ITEMS))

    latents, pictures = phased(folder, GUIDED, spec, ITEMS, inputs)
    own_latents, own_pictures = ordinary_of_each(folder, GUIDED, spec, ITEMS, inputs)

    torch.testing.assert_close(latents, own_latents, rtol=0, atol=1e-4)
    assert largest_difference(pictures, own_pictures) <= 1
