"""How much memory a group needs, by mode, phase and rung."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler import estimate
from scheduler.estimate import Companions, mode_bytes, parts
from scheduler.estimate.memory import MARGIN
from scheduler.estimate.table import reference_card
from storage.contract.capability import Mode
from storage.contract.classes import GIB
from storage.contract.families.references import (
    FLUX_1_DEV,
    REFERENCES,
    SD_15,
    SD_21,
    SD_35_MEDIUM,
    SDXL,
    Reference,
)
from storage.contract.families.registry import FAMILIES
from storage.contract.items import (
    IMAGE_TO_IMAGE,
    KINDS,
    BatchShape,
    ControlNet,
    GroupSpec,
    IpAdapter,
    Lora,
    Upscaler,
)
from storage.contract.models import ModelCard
from storage.testing.factories import make_card, make_spec

BY_NAME = {family.name: family for family in FAMILIES}
CARDS = [reference_card(one, BY_NAME[one.family]) for one in REFERENCES]
GPU_MODES = (Mode.RESIDENT, Mode.LEAN, Mode.PHASED, Mode.OFFLOAD)


@st.composite
def groups(draw: st.DrawFn) -> tuple[ModelCard, GroupSpec]:
    """A released model and anything that may be asked of it."""
    card = draw(st.sampled_from(CARDS))
    denoise = draw(st.integers(1, 16))
    return card, make_spec(
        kind=draw(st.sampled_from(KINDS)),
        width=draw(st.integers(1, 256)) * 8,
        height=draw(st.integers(1, 256)) * 8,
        dtype=draw(st.sampled_from(["auto", "float16", "bfloat16", "float32"])),
        guidance_scale=draw(st.sampled_from([0.0, 1.0, 7.5])),
        batch=BatchShape(encode=draw(st.integers(1, 8)), denoise=denoise, decode=1),
        loras=draw(st.sampled_from([(), (Lora(id="a"),)])),
        controlnets=draw(st.sampled_from([(), (ControlNet(model="a"), ControlNet(model="b"))])),
        ip_adapter=draw(st.sampled_from([None, IpAdapter(model="a")])),
        upscaler=draw(st.sampled_from([None, Upscaler(model="a")])),
        quantization=draw(st.sampled_from([None, "fp8", "nf4"])),
    )


def changed(spec: GroupSpec, **values: Any) -> GroupSpec:
    return msgspec.structs.replace(spec, **values)


# In general


@given(groups())
def test_each_mode_needs_no_more_than_the_faster_one(group: tuple[ModelCard, GroupSpec]) -> None:
    needed = [mode_bytes(*group, mode) for mode in GPU_MODES]
    assert needed == sorted(needed, reverse=True)
    assert mode_bytes(*group, Mode.CPU_PHASED) <= mode_bytes(*group, Mode.CPU)


@given(groups(), st.sampled_from(list(Mode)))
def test_larger_pictures_and_batches_never_need_less(
    group: tuple[ModelCard, GroupSpec], mode: Mode
) -> None:
    card, spec = group
    more = BatchShape(encode=spec.batch.encode, denoise=spec.batch.denoise + 1, decode=1)
    needed = mode_bytes(card, spec, mode)
    assert mode_bytes(card, changed(spec, width=spec.width + 8), mode) >= needed
    assert mode_bytes(card, changed(spec, height=spec.height + 8), mode) >= needed
    assert mode_bytes(card, changed(spec, batch=more), mode) >= needed
    assert mode_bytes(card, changed(spec, dtype="float32"), mode) >= needed


@given(groups(), st.sampled_from(list(Mode)))
def test_what_comes_beside_never_makes_it_less(
    group: tuple[ModelCard, GroupSpec], mode: Mode
) -> None:
    card, spec = group
    bare = changed(spec, loras=(), controlnets=(), ip_adapter=None, upscaler=None)
    assert mode_bytes(card, bare, mode) <= mode_bytes(card, spec, mode)


@given(groups())
def test_rungs_go_down_within_a_mode_and_end_at_the_least(
    group: tuple[ModelCard, GroupSpec],
) -> None:
    needs = estimate.requirements(*group)
    assert [need.mode for need in needs.modes if not (need.batch or need.tiled)] == [
        *GPU_MODES,
        Mode.CPU,
        Mode.CPU_PHASED,
    ]
    for mode in Mode:
        sizes = [need.memory_bytes for need in needs.modes if need.mode is mode]
        assert sizes == sorted(sizes, reverse=True)
        assert len(sizes) == len(set(sizes))
    assert all(0 <= need.batch < group[1].batch.denoise for need in needs.modes)


@given(groups())
def test_decoding_in_tiles_needs_no_more(group: tuple[ModelCard, GroupSpec]) -> None:
    for mode in (Mode.PHASED, Mode.OFFLOAD):
        assert mode_bytes(*group, mode, tiled=True) <= mode_bytes(*group, mode)


def test_half_precision_needs_less_than_full() -> None:
    card = make_card()
    for mode in Mode:
        half = mode_bytes(card, make_spec(dtype="float16"), mode)
        assert half < mode_bytes(card, make_spec(dtype="float32"), mode)


def test_a_model_no_record_covers_has_the_modes_of_the_plain_call_alone() -> None:
    card = make_card(pipeline="SomethingNewPipeline")
    needs = estimate.requirements(card, make_spec())
    assert [need.mode for need in needs.modes] == [Mode.RESIDENT, Mode.CPU]


# Against figures that were worked out apart, in GiB: weights of 16 bit and activations


def spec_of(reference: Reference, batch: int, **values: Any) -> GroupSpec:
    return make_spec(
        width=reference.side,
        height=reference.side,
        dtype="float16",
        guidance_scale=7.5,
        batch=BatchShape(encode=1, denoise=batch, decode=1),
        **values,
    )


def card_of(reference: Reference, **values: Any) -> ModelCard:
    return msgspec.structs.replace(reference_card(reference, BY_NAME[reference.family]), **values)


def gib_of(card: ModelCard, spec: GroupSpec) -> dict[str, float]:
    """GiB by phase, and of all together, without margin and overhead."""
    found: dict[str, float] = {}
    for part in parts(card, spec, Mode.PHASED):
        found[part.phase] = max(found.get(part.phase, 0.0), part.total / GIB)
    everything = (mode_bytes(card, spec, Mode.RESIDENT) - GIB // 8) / MARGIN / GIB
    return found | {"resident": everything}


@pytest.mark.parametrize(
    ("reference", "batch", "resident", "encode", "denoise", "decode"),
    [
        (SD_15, 1, 2.36, 0.23, 1.73, 0.53),
        (SD_15, 4, 2.49, 0.23, 2.11, 0.53),
        (SD_21, 1, 3.25, 0.63, 1.90, 1.00),
        (SD_21, 4, 3.55, 0.63, 2.76, 1.00),
        (SDXL, 1, 9.62, 1.29, 5.09, 3.31),
        (SDXL, 4, 9.62, 1.29, 6.02, 3.31),
        (SD_35_MEDIUM, 1, 16.23, 8.87, 4.52, 1.66),
        (SD_35_MEDIUM, 4, 16.23, 8.87, 5.53, 1.66),
        (FLUX_1_DEV, 1, 32.92, 8.87, 22.62, 1.66),
        (FLUX_1_DEV, 4, 33.24, 8.87, 23.99, 1.66),
    ],
    ids=lambda value: getattr(value, "title", str(value)),
)
def test_released_models_need_what_was_worked_out_for_them(
    reference: Reference, batch: int, resident: float, encode: float, denoise: float, decode: float
) -> None:
    found = gib_of(card_of(reference), spec_of(reference, batch))
    assert found == pytest.approx(
        {"resident": resident, "encode": encode, "denoise": denoise, "decode": decode}, rel=0.025
    )


def test_a_vae_that_need_not_be_upcast_decodes_in_half() -> None:
    found = gib_of(card_of(SDXL, force_upcast=False), spec_of(SDXL, 1))
    assert found["resident"] == pytest.approx(7.96, rel=0.02)
    assert found["decode"] == pytest.approx(1.66, rel=0.02)


def test_a_model_without_its_largest_encoder_needs_that_much_less() -> None:
    whole = card_of(SD_35_MEDIUM)
    without = {name: n for name, n in whole.parameters.items() if name != "text_encoder_3"}
    card = card_of(SD_35_MEDIUM, parameters=without)
    found = gib_of(card, spec_of(SD_35_MEDIUM, 1))
    assert found["resident"] == pytest.approx(7.36, rel=0.02)
    assert found["encode"] == pytest.approx(1.29, rel=0.02)


@pytest.mark.parametrize(
    ("reference", "lean"),
    [(SD_15, 2.13), (SD_21, 2.61), (SDXL, 8.09), (FLUX_1_DEV, 23.82)],
    ids=lambda value: getattr(value, "title", str(value)),
)
def test_lean_is_denoiser_and_decoder_together(reference: Reference, lean: float) -> None:
    needed = mode_bytes(card_of(reference), spec_of(reference, 1), Mode.LEAN)
    assert (needed - GIB // 8) / MARGIN / GIB == pytest.approx(lean, rel=0.025)


def test_sdxl_fits_eight_gigabytes_in_phases_and_flux_no_card_of_twenty_four() -> None:
    sdxl = mode_bytes(card_of(SDXL), spec_of(SDXL, 1), Mode.PHASED)
    assert sdxl < 7.3 * GIB  # what is free of 8 beside the context
    assert mode_bytes(card_of(FLUX_1_DEV), spec_of(FLUX_1_DEV, 1), Mode.PHASED) > 24 * GIB
    assert mode_bytes(card_of(FLUX_1_DEV), spec_of(FLUX_1_DEV, 1), Mode.OFFLOAD) < 15 * GIB


# What comes beside


def test_known_companions_replace_what_is_guessed_of_them() -> None:
    spec = spec_of(SD_15, 1, controlnets=(ControlNet(model="a"),))
    card = card_of(SD_15)
    guessed = mode_bytes(card, spec, Mode.PHASED)
    known = mode_bytes(card, spec, Mode.PHASED, companions=Companions(controlnets=361_279_120))
    assert guessed == pytest.approx(known, rel=0.05)
    none = mode_bytes(card, spec, Mode.PHASED, companions=Companions(controlnets=0))
    assert none < known


def test_quantization_shrinks_the_denoiser_alone() -> None:
    card = card_of(FLUX_1_DEV)
    plain, small = spec_of(FLUX_1_DEV, 1), spec_of(FLUX_1_DEV, 1, quantization="nf4")
    saved = gib_of(card, plain)["denoise"] - gib_of(card, small)["denoise"]
    assert saved == pytest.approx(22.17 * (2 - 0.56) / 2, rel=0.01)
    assert gib_of(card, plain)["encode"] == gib_of(card, small)["encode"]


def test_of_two_stages_the_larger_counts() -> None:
    card, spec = card_of(SD_15), spec_of(SD_15, 1, upscaler=Upscaler(model="x"))
    second = next(one for one in CARDS if one.model == "SD x4 upscaler")
    companions = Companions(upscaler=second)
    both = mode_bytes(card, spec, Mode.PHASED, companions=companions)
    assert both > mode_bytes(card, changed(spec, upscaler=None), Mode.PHASED)
    assert estimate.requirements(card, spec, companions).disk_bytes == (
        card.weight_bytes + second.weight_bytes
    )


def test_a_family_with_bins_needs_the_same_for_every_size() -> None:
    reference = next(one for one in REFERENCES if one.family == "pixart-sigma")
    card = card_of(reference)
    large, small = (changed(spec_of(reference, 1), width=side, height=side) for side in (1024, 256))

    assert gib_of(card, large) == gib_of(card, small)
    assert estimate.tflop(card, large) == estimate.tflop(card, small)
    shapes = {estimate.batch_shape(card, side, side, 64, on_cpu=False) for side in (1024, 256)}
    assert len(shapes) == 1


@pytest.mark.parametrize("name", ["qwen-image", "z-image"])
def test_images_denoised_after_each_other_take_the_memory_of_one(name: str) -> None:
    reference = next(one for one in REFERENCES if one.family == name)
    card = card_of(reference)

    one, four = (_bytes(card, spec_of(reference, batch), "denoise") for batch in (1, 4))

    assert one == four


def test_sdxl_encodes_pictures_in_float32_in_bfloat16_too() -> None:
    bfloat, half, mended = (
        _bytes(
            card_of(SDXL, force_upcast=force),
            changed(spec_of(SDXL, 1, kind=IMAGE_TO_IMAGE, strength=0.5), dtype=dtype),
            "condition",
        )
        for dtype, force in (("bfloat16", True), ("float16", True), ("bfloat16", False))
    )

    assert bfloat == half
    assert bfloat == pytest.approx(2 * mended)


def _bytes(card: ModelCard, spec: GroupSpec, phase: str) -> float:
    (part,) = (part for part in parts(card, spec, Mode.PHASED) if part.phase == phase)
    return part.total
