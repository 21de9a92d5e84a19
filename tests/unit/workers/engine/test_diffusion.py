"""The engine against diffusers' own call, on a model with random weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from storage.contract.capability import Mode, ModeNeed
from storage.contract.errors import DeviceLost, Interrupted, OutOfMemory
from storage.contract.families.stable_diffusion import STABLE_DIFFUSION
from storage.contract.items import BatchShape, GroupSpec, Item
from storage.contract.outcomes import Reason
from storage.testing.factories import make_item, make_spec
from workers.engine import benches
from workers.engine.batching import plan
from workers.engine.devices import open_device
from workers.engine.diffusion import DiffusionRenderer
from workers.engine.families.base import Bench
from workers.engine.families.registry import ADAPTERS
from workers.engine.families.stable_diffusion import StableDiffusion
from workers.engine.ports import Facts, Picture, Watch

ITEMS = [
    make_item(n, prompt=f"a red thing {n % 3}", negative_prompt="dull" * (n % 2), seed=100 + n)
    for n in range(8)
]


ON_CPU = ModeNeed(mode=Mode.CPU, memory_bytes=0)


def quiet(_phase: str, _batch: int, _step: int) -> None:
    """Nobody watches."""


@pytest.fixture
def spec(tiny_model: Path) -> GroupSpec:
    return make_spec(model=str(tiny_model), num_inference_steps=3, denoise=4)


@pytest.fixture
def renderer() -> DiffusionRenderer:
    return DiffusionRenderer(device=open_device("cpu"), kind="cpu/1", dtypes=("float32",))


def rendered(
    renderer: DiffusionRenderer,
    spec: GroupSpec,
    items: Sequence[Item] = ITEMS,
    first_item: int = 0,
    tell: Callable[[str, int, int], None] = quiet,
    mode: Mode = Mode.CPU,
) -> dict[int, Picture]:
    batches = plan(items, first_item=first_item, group_first_item=0, batch_size=spec.batch.denoise)
    watch = Watch(tell=tell, stop_after_batch=lambda: False)
    need = ModeNeed(mode=mode, memory_bytes=0)
    return {
        picture.item: picture
        for _, pictures in renderer.render(spec, need, batches, watch)
        for picture in pictures
    }


def own_call(spec: GroupSpec, items: Sequence[Item], **options: Any) -> list[Any]:
    """What diffusers' pipeline makes of these items in one call."""
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(spec.model)
    pipeline.set_progress_bar_config(disable=True)
    # diffusers looks for the last norm where transformers 5 no longer has it.
    norm = pipeline.text_encoder.final_layer_norm
    object.__setattr__(pipeline.text_encoder, "text_model", SimpleNamespace(final_layer_norm=norm))
    images = pipeline(
        prompt=[item.prompt for item in items],
        negative_prompt=[item.negative_prompt for item in items],
        width=spec.width,
        height=spec.height,
        num_inference_steps=spec.num_inference_steps,
        guidance_scale=spec.guidance_scale,
        generator=[torch.Generator("cpu").manual_seed(item.seed) for item in items],
        clip_skip=spec.clip_skip,
        **options,
    ).images
    return [np.asarray(image) for image in images]


def same(one: Picture, other: Picture) -> bool:
    """Bit for bit."""
    assert one.pixels is not None
    return np.array_equal(one.pixels, np.asarray(other.pixels))


def largest_difference(one: Any, other: Any) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@pytest.mark.parametrize(
    "changes",
    [{}, {"guidance_scale": 1.0}, {"clip_skip": 1}, {"width": 96, "height": 72}],
    ids=["plain", "without guidance", "clip skip", "another size"],
)
def test_pictures_are_those_of_diffusers_own_call(
    renderer: DiffusionRenderer, spec: GroupSpec, changes: dict[str, Any]
) -> None:
    import msgspec

    spec = msgspec.structs.replace(spec, **changes)

    ours = rendered(renderer, spec, ITEMS[:4])

    for number, theirs in enumerate(own_call(spec, ITEMS[:4])):
        pixels = ours[number].pixels
        assert pixels is not None
        assert pixels.shape == (spec.height, spec.width, 3)
        assert largest_difference(pixels, theirs) <= 1


def test_an_item_alone_is_bit_for_bit_what_it_is_among_others(
    renderer: DiffusionRenderer, spec: GroupSpec
) -> None:
    together = rendered(renderer, spec)

    for number in (0, 3, 6):
        alone = rendered(renderer, spec, [ITEMS[number]], first_item=number)
        assert same(alone[number], together[number])


def test_another_batch_shape_changes_no_channel_by_more_than_one(
    renderer: DiffusionRenderer, spec: GroupSpec
) -> None:
    import msgspec

    single = msgspec.structs.replace(spec, batch=BatchShape(encode=1, denoise=1, decode=1))
    eight = msgspec.structs.replace(spec, batch=BatchShape(encode=8, denoise=8, decode=8))

    alone = rendered(renderer, single)
    together = rendered(renderer, eight)

    for number in range(len(ITEMS)):
        assert largest_difference(alone[number].pixels, together[number].pixels) <= 1


def test_a_sampler_that_draws_noise_at_every_step_draws_it_from_the_item(
    renderer: DiffusionRenderer, spec: GroupSpec
) -> None:
    import msgspec

    spec = msgspec.structs.replace(spec, scheduler="euler_a", num_inference_steps=4)

    together = rendered(renderer, spec)
    alone = rendered(renderer, spec, [ITEMS[5]], first_item=5)

    assert same(alone[5], together[5])


def test_a_prompt_longer_than_the_text_encoder_reads_is_reported(
    renderer: DiffusionRenderer, spec: GroupSpec
) -> None:
    items = [make_item(0, prompt="x" * 100), make_item(1, prompt="short")]

    pictures = rendered(renderer, spec, items)

    assert pictures[0].truncated_tokens == 100 + 2 - 77
    assert pictures[1].truncated_tokens == 0


class _Spoilt(StableDiffusion):
    """Denoises right, but what `spoil` does to the latents in any dtype it is called for."""

    def __init__(self, spoil: Callable[[torch.Tensor, str], torch.Tensor]) -> None:
        self._spoil = spoil

    def denoise(self, bench: Bench, *arguments: Any) -> Any:
        return self._spoil(super().denoise(bench, *arguments), str(bench.dtype))


def _spoil_row(row: int, *, also_in_float32: bool) -> Callable[[torch.Tensor, str], torch.Tensor]:
    def spoil(latents: torch.Tensor, dtype: str) -> torch.Tensor:
        if dtype != "torch.float32" or also_in_float32:
            latents = latents.clone()
            latents[row] = float("nan")
        return latents

    return spoil


def test_a_picture_that_is_not_finite_is_a_fault_and_its_neighbours_are_not(
    renderer: DiffusionRenderer, spec: GroupSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoilt = _Spoilt(_spoil_row(1, also_in_float32=True))
    good = rendered(renderer, spec, ITEMS[:4])
    monkeypatch.setitem(ADAPTERS, STABLE_DIFFUSION.name, spoilt)

    pictures = rendered(renderer, spec, ITEMS[:4])

    assert pictures[1].fault is Reason.NAN
    assert pictures[1].pixels is None
    for number in (0, 2, 3):
        assert same(pictures[number], good[number])


def test_a_fault_in_half_precision_is_rendered_again_in_float32(
    renderer: DiffusionRenderer, spec: GroupSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    import msgspec

    right = rendered(renderer, spec, ITEMS[:4])
    spoilt = _Spoilt(_spoil_row(2, also_in_float32=False))
    monkeypatch.setitem(ADAPTERS, STABLE_DIFFUSION.name, spoilt)
    half = msgspec.structs.replace(spec, dtype="bfloat16")

    pictures = rendered(renderer, half, ITEMS[:4])

    assert [pictures[n].retried_in for n in range(4)] == [None, None, "float32", None]
    assert same(pictures[2], right[2])


def test_a_fault_that_float32_does_not_mend_says_so(
    renderer: DiffusionRenderer, spec: GroupSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    import msgspec

    spoilt = _Spoilt(_spoil_row(0, also_in_float32=True))
    monkeypatch.setitem(ADAPTERS, STABLE_DIFFUSION.name, spoilt)
    half = msgspec.structs.replace(spec, dtype="bfloat16")

    picture = rendered(renderer, half, ITEMS[:4])[0]

    assert picture.fault is Reason.NAN
    assert picture.detail == "latents are not finite, in float32 too"


class _SpoiltText(StableDiffusion):
    """Embeds one text as numbers that are not finite, unless in float32."""

    def encode(self, bench: Bench, encoder: str, texts: Sequence[str], *, negative: bool) -> Any:
        rows = super().encode(bench, encoder, texts, negative=negative)
        if bench.dtype == torch.float32:
            return rows
        return [
            {"prompt_embeds": row["prompt_embeds"] * float("inf")}
            if text == "a red thing 1"
            else row
            for text, row in zip(texts, rows, strict=True)
        ]


class _SpoiltPixels(StableDiffusion):
    """Decodes to numbers that are not finite in any dtype `spoils` names."""

    def __init__(self, *spoils: torch.dtype) -> None:
        super().__init__()
        self._spoils = spoils
        self.denoised = 0

    def denoise(self, *arguments: Any, **options: Any) -> Any:
        self.denoised += 1
        return super().denoise(*arguments, **options)

    def decode(self, bench: Bench, latents: Any) -> Any:
        pictures = super().decode(bench, latents)
        return pictures * float("nan") if bench.pipeline.vae.dtype in self._spoils else pictures


def test_a_text_that_overflows_is_rendered_again_in_float32_and_its_neighbours_are_not(
    renderer: DiffusionRenderer, spec: GroupSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    import msgspec

    right = rendered(renderer, spec, ITEMS[:4])
    half = msgspec.structs.replace(spec, dtype="bfloat16")
    neighbours = rendered(renderer, half, ITEMS[:4])
    monkeypatch.setitem(ADAPTERS, STABLE_DIFFUSION.name, _SpoiltText())

    pictures = rendered(renderer, half, ITEMS[:4])

    assert [pictures[n].retried_in for n in range(4)] == [None, "float32", None, None]
    assert same(pictures[1], right[1])
    assert all(same(pictures[n], neighbours[n]) for n in (0, 2, 3))


@pytest.mark.parametrize("mode", [Mode.CPU, Mode.CPU_PHASED])
def test_where_only_pixels_are_bad_only_the_decoding_is_repeated(
    renderer: DiffusionRenderer, spec: GroupSpec, monkeypatch: pytest.MonkeyPatch, mode: Mode
) -> None:
    import msgspec

    adapter = _SpoiltPixels(torch.bfloat16)
    monkeypatch.setitem(ADAPTERS, STABLE_DIFFUSION.name, adapter)
    half = msgspec.structs.replace(spec, dtype="bfloat16")

    pictures = rendered(renderer, half, ITEMS[:4], mode=mode)

    assert adapter.denoised == 1
    for picture in pictures.values():
        assert picture.pixels is not None
        assert (picture.retried_in, picture.retried_phase) == ("float32", "decode")


def test_where_decoding_again_does_not_help_everything_is_rendered_again(
    renderer: DiffusionRenderer, spec: GroupSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    import msgspec

    adapter = _SpoiltPixels(torch.bfloat16, torch.float32)
    monkeypatch.setitem(ADAPTERS, STABLE_DIFFUSION.name, adapter)
    half = msgspec.structs.replace(spec, dtype="bfloat16")

    pictures = rendered(renderer, half, ITEMS[:4])

    assert adapter.denoised == 2
    assert {p.fault for p in pictures.values()} == {Reason.NAN}
    assert pictures[0].detail == "pixels are not finite, in float32 too"


def test_a_picture_of_one_colour_is_a_fault(
    renderer: DiffusionRenderer, spec: GroupSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Flat(StableDiffusion):
        def decode(self, bench: Any, latents: Any) -> Any:
            return torch.full((len(latents), 3, spec.height, spec.width), 0.5)

    monkeypatch.setitem(ADAPTERS, STABLE_DIFFUSION.name, Flat())

    picture = rendered(renderer, spec, ITEMS[:1])[0]

    assert picture.fault is Reason.CONSTANT
    assert picture.detail == "every value is 128"


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), OutOfMemory),
        (MemoryError(), OutOfMemory),
        (RuntimeError("CUDA error: an illegal memory access"), DeviceLost),
        (RuntimeError("shapes differ"), RuntimeError),
    ],
)
def test_errors_of_the_device_are_told_apart(
    renderer: DiffusionRenderer,
    spec: GroupSpec,
    monkeypatch: pytest.MonkeyPatch,
    raised: Exception,
    expected: type[Exception],
) -> None:
    class Failing(StableDiffusion):
        def denoise(self, *_arguments: Any) -> Any:
            raise raised

    monkeypatch.setitem(ADAPTERS, STABLE_DIFFUSION.name, Failing())

    with pytest.raises(expected) as caught:
        rendered(renderer, spec)
    assert type(caught.value) is expected


def test_a_watcher_can_stop_in_the_middle_of_a_batch(
    renderer: DiffusionRenderer, spec: GroupSpec
) -> None:
    told: list[tuple[str, int, int]] = []

    def tell(phase: str, batch: int, step: int) -> None:
        told.append((phase, batch, step))
        if (batch, step) == (2, 1):
            raise Interrupted

    with pytest.raises(Interrupted):
        rendered(renderer, spec, tell=tell)
    assert told[0] == ("load", 0, 0)
    assert told[-3:] == [("decode", 1, 0), ("denoise", 2, 0), ("denoise", 2, 1)]


def test_rendering_stops_after_a_batch_when_asked(
    renderer: DiffusionRenderer, spec: GroupSpec
) -> None:
    batches = plan(ITEMS, first_item=0, group_first_item=0, batch_size=4)
    watch = Watch(tell=quiet, stop_after_batch=lambda: True)

    results: list[tuple[Facts, list[Picture]]] = list(renderer.render(spec, ON_CPU, batches, watch))

    assert [len(pictures) for _, pictures in results] == [4]


def test_a_loaded_model_is_kept_for_the_next_task(
    renderer: DiffusionRenderer, spec: GroupSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert renderer.loaded_model is None
    rendered(renderer, spec, ITEMS[:1])
    assert renderer.loaded_model == spec.model
    monkeypatch.setattr(benches, "load_component", lambda *_: pytest.fail("loaded again"))

    assert rendered(renderer, spec, ITEMS[:1])[0].pixels is not None
