"""Every kind of task through the whole engine: all modes alike, and the second stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from storage.contract.capability import Mode, ModeNeed
from storage.contract.items import (
    UPSCALE,
    BatchShape,
    GroupSpec,
    Item,
    Upscaler,
)
from storage.contract.outcomes import Reason
from tests.models.kinds import (
    ITEMS,
    KINDS,
    SIDE,
    WORDS_ONLY,
    Drawings,
    Models,
    spec_named,
    spec_of,
)
from workers.engine.devices import SimulatedCard, open_device
from workers.engine.diffusion import DiffusionRenderer
from workers.engine.families.base import Inputs
from workers.engine.ports import Picture

GIB = 2**30
MODES = (Mode.RESIDENT, Mode.LEAN, Mode.PHASED, Mode.OFFLOAD)

Make = Callable[..., DiffusionRenderer]
Render = Callable[..., Any]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("kinds"))


def pixels_of(pictures: dict[int, Picture]) -> list[Any]:
    assert not [picture.detail for picture in pictures.values() if picture.fault]
    return [np.asarray(pictures[n].pixels) for n in sorted(pictures)]


@pytest.mark.parametrize("name", KINDS)
def test_a_mode_changes_no_bit(
    make_renderer: Make, render: Render, models: Models, name: str
) -> None:
    spec = spec_named(name, models)
    sources = Drawings()
    on_cpu = render(make_renderer(open_device("cpu"), sources=sources), spec, items=ITEMS)
    expected = pixels_of(on_cpu.pictures)
    assert expected[0].shape == (SIDE, SIDE, 3)

    for mode in MODES:
        renderer = make_renderer(SimulatedCard(GIB), sources=sources)
        pictures = render(renderer, spec, mode, items=ITEMS).pictures
        for ours, theirs in zip(pixels_of(pictures), expected, strict=True):
            assert np.array_equal(ours, theirs), mode


@pytest.mark.parametrize("name", KINDS)
def test_an_item_alone_is_what_it_is_among_others(
    make_renderer: Make, render: Render, models: Models, name: str
) -> None:
    spec = spec_named(name, models)
    renderer = make_renderer(open_device("cpu"), sources=Drawings())
    together = render(renderer, spec, items=ITEMS).pictures

    alone = render(renderer, spec, items=ITEMS[1:2], first_item=1).pictures

    assert np.array_equal(pixels_of(alone)[0], np.asarray(together[1].pixels))


@pytest.mark.parametrize("name", ["image to image", "controlnets", "lora", "ip adapter"])
def test_a_small_card_gives_the_same_pictures_within_one_level(
    make_renderer: Make, render: Render, models: Models, name: str
) -> None:
    spec = spec_named(name, models)
    sources = Drawings()
    large = render(
        make_renderer(SimulatedCard(GIB), sources=sources), spec, Mode.RESIDENT, items=ITEMS
    )
    limit = large.facts[-1].peak_bytes * 2 // 3

    small = render(
        make_renderer(SimulatedCard(limit), sources=sources), spec, Mode.RESIDENT, items=ITEMS
    )

    assert small.steps_down
    for ours, theirs in zip(pixels_of(small.pictures), pixels_of(large.pictures), strict=True):
        assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1


def test_a_model_then_with_a_lora_then_without_gives_the_first_pictures_again(
    make_renderer: Make, render: Render, models: Models
) -> None:
    plain = spec_of(models("sd"))
    renderer = make_renderer(SimulatedCard(GIB))

    results = [
        render(renderer, spec, Mode.RESIDENT, items=WORDS_ONLY)
        for spec in (plain, spec_named("lora", models), plain)
    ]

    first, laid, again = (pixels_of(result.pictures) for result in results)
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    assert not np.array_equal(first[0], laid[0])
    hashes = [result.facts[-1].weights for result in results]
    assert hashes[0] == hashes[2] != hashes[1]
    assert list(results[1].facts[-1].loras) == [str(models("lora"))]


def test_a_picture_that_cannot_be_had_fails_its_item_alone(
    make_renderer: Make, render: Render, models: Models
) -> None:
    spec = spec_named("image to image", models)
    whole = render(make_renderer(open_device("cpu"), sources=Drawings()), spec, items=ITEMS)

    result = render(make_renderer(open_device("cpu"), sources=Drawings(0)), spec, items=ITEMS)

    assert result.pictures[0].fault is Reason.INPUT
    assert result.pictures[0].detail == "the input picture picture 0 is missing"
    for number in (1, 2):
        ours, theirs = (r.pictures[number].pixels for r in (result, whole))
        assert np.array_equal(ours, theirs)


def test_pictures_of_the_next_batch_are_fetched_before_this_one_is_rendered(
    make_renderer: Make, render: Render, models: Models
) -> None:
    sources = Drawings()

    render(
        make_renderer(open_device("cpu"), sources=sources),
        spec_named("image to image", models),
        items=ITEMS,
    )

    assert sources.fetched[:2] == [0, 1]
    assert 2 in sources.fetched


def test_a_second_stage_makes_each_picture_larger(
    make_renderer: Make, render: Render, models: Models
) -> None:
    upscaler = Upscaler(model=str(models("upscaler")), num_inference_steps=3)
    small = spec_of(models("sd"))
    spec = msgspec.structs.replace(small, upscaler=upscaler)
    renderer = make_renderer(SimulatedCard(GIB))
    before = pixels_of(render(renderer, small, Mode.PHASED, items=WORDS_ONLY).pictures)

    result = render(renderer, spec, Mode.PHASED, items=WORDS_ONLY)

    class First:
        def inputs_of(self, item: Item, spec: GroupSpec) -> Inputs:
            return Inputs(image=Image.fromarray(before[item.row]))

        def prefetch(self, items: Sequence[Item]) -> None:
            pass

    alone = GroupSpec(
        kind=UPSCALE,
        model=str(models("upscaler")),
        width=4 * SIDE,
        height=4 * SIDE,
        num_inference_steps=3,
        guidance_scale=upscaler.guidance_scale,
        scheduler="DDIMScheduler",
        batch=BatchShape(encode=4, denoise=1, decode=1),
        noise_level=upscaler.noise_level,
    )
    expected = render(make_renderer(open_device("cpu"), sources=First()), alone, items=ITEMS)
    for ours, theirs in zip(pixels_of(result.pictures), pixels_of(expected.pictures), strict=True):
        assert ours.shape == (4 * SIDE, 4 * SIDE, 3)
        assert np.array_equal(ours, theirs)


def test_a_second_stage_that_runs_out_of_memory_steps_down_by_itself(
    make_renderer: Make, render: Render, models: Models
) -> None:
    small = spec_of(models("sd"))
    upscaler = Upscaler(model=str(models("upscaler")), num_inference_steps=2)
    spec = msgspec.structs.replace(small, upscaler=upscaler)
    card = SimulatedCard(GIB)
    peak = render(make_renderer(card), spec, Mode.PHASED, items=WORDS_ONLY).facts[-1].peak_bytes

    result = render(
        make_renderer(SimulatedCard(peak - 1_000_000)),
        spec,
        rung=ModeNeed(mode=Mode.PHASED, memory_bytes=0),
        items=WORDS_ONLY,
    )

    assert result.steps_down
    assert all(step.startswith("upscaler: ") for step in result.steps_down)
    assert all(picture.pixels is not None for picture in result.pictures.values())
