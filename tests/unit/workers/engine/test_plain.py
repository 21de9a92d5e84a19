"""Models no record covers, by diffusers' own call."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from storage.contract.capability import Mode
from storage.contract.errors import OutOfMemory
from storage.contract.items import BatchShape, GroupSpec, Item
from workers.engine.devices import SimulatedCard, open_device
from workers.engine.diffusion import DiffusionRenderer

GIB = 2**30

Make = Callable[..., DiffusionRenderer]
Render = Callable[..., Any]


@pytest.fixture
def uncovered(tiny_model: Path, tmp_path: Path, spec: GroupSpec) -> GroupSpec:
    """Stable Diffusion with perturbed attention, which no record covers."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "pag"))
    path = folder / "model_index.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"_class_name": "StableDiffusionPAGPipeline"})
    )
    return msgspec.structs.replace(spec, model=str(folder), scheduler="DDIMScheduler")


def own_call(spec: GroupSpec, items: Sequence[Item]) -> list[Any]:
    from diffusers import StableDiffusionPAGPipeline

    pipeline = StableDiffusionPAGPipeline.from_pretrained(spec.model, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        prompt=[item.prompt for item in items],
        negative_prompt=[item.negative_prompt for item in items],
        width=spec.width,
        height=spec.height,
        num_inference_steps=spec.num_inference_steps,
        guidance_scale=spec.guidance_scale,
        generator=[torch.Generator("cpu").manual_seed(item.seed) for item in items],
    ).images
    return [np.asarray(image) for image in images]


def test_its_pictures_are_those_of_diffusers_own_call_and_it_says_how(
    make_renderer: Make, render: Render, uncovered: GroupSpec, items: tuple[Item, ...]
) -> None:
    result = render(make_renderer(open_device("cpu")), uncovered)

    for number, theirs in enumerate(own_call(uncovered, items[:4])):
        ours = np.asarray(result.pictures[number].pixels).astype(int)
        assert np.abs(ours - theirs.astype(int)).max() <= 1
    assert len(result.pictures) == 8
    assert {facts.plain for facts in result.facts} == {True}
    assert result.facts[-1].phase_seconds["denoise"] > 0
    assert ("denoise", 2, 1) in result.told


def test_it_takes_one_piece_of_a_card_or_none(
    make_renderer: Make, render: Render, uncovered: GroupSpec
) -> None:
    large = render(make_renderer(SimulatedCard(GIB)), uncovered, Mode.RESIDENT)
    on_cpu = render(make_renderer(open_device("cpu")), uncovered)
    assert all(
        np.array_equal(large.pictures[n].pixels, on_cpu.pictures[n].pixels) for n in range(8)
    )
    small = SimulatedCard(large.facts[-1].peak_bytes // 2)

    with pytest.raises(OutOfMemory, match="rendered in one piece"):
        render(make_renderer(small), uncovered, Mode.RESIDENT)
    assert small.meter.weights == 0


def test_a_batch_of_one_item_is_padded_like_any_other(
    make_renderer: Make, render: Render, uncovered: GroupSpec, items: tuple[Item, ...]
) -> None:
    spec = msgspec.structs.replace(uncovered, batch=BatchShape(denoise=4))
    renderer = make_renderer(open_device("cpu"))
    together = render(renderer, spec)

    alone = render(renderer, spec, items=items[5:6], first_item=5)

    assert np.array_equal(alone.pictures[5].pixels, together.pictures[5].pixels)


def test_a_call_has_a_negative_prompt_for_all_its_rows_or_for_none(
    make_renderer: Make, render: Render, uncovered: GroupSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To some pipelines an empty one is not the same as none."""
    from diffusers import StableDiffusionPAGPipeline

    own = StableDiffusionPAGPipeline.__call__
    negatives: list[list[str] | None] = []

    @functools.wraps(own)
    def noted(self: Any, **arguments: Any) -> Any:
        negatives.append(arguments.get("negative_prompt"))
        return own(self, **arguments)

    monkeypatch.setattr(StableDiffusionPAGPipeline, "__call__", noted)
    spec = msgspec.structs.replace(uncovered, batch=BatchShape(denoise=4))

    result = render(make_renderer(open_device("cpu")), spec)

    assert negatives == [None, ["dull"] * 4] * 2
    assert sorted(result.pictures) == list(range(8))
