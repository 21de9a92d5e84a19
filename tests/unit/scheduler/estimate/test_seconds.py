"""How long an image takes and how large it is, before anything was measured."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler import estimate
from scheduler.estimate import ASSUMED_TFLOPS
from storage.contract.capability import Requirements
from storage.contract.classes import GIB
from storage.contract.items import IMAGE_TO_IMAGE, Upscaler
from storage.testing.factories import make_capability, make_card, make_requirements, make_spec

CARD = make_card()
SIDES = st.integers(1, 256).map(lambda side: side * 8)


@given(SIDES, st.integers(1, 500))
def test_arithmetic_grows_with_pixels_and_steps(side: int, steps: int) -> None:
    spec = make_spec(width=side, height=side, num_inference_steps=steps)
    base = estimate.tflop(CARD, spec)
    more = msgspec.structs.replace(spec, num_inference_steps=steps + 1)
    wider = msgspec.structs.replace(spec, width=side + 8)
    assert 0 < base < estimate.tflop(CARD, more)
    assert base < estimate.tflop(CARD, wider)


def test_guidance_doubles_the_work_of_a_step() -> None:
    def steps_alone(guidance: float) -> float:
        few, many = (
            estimate.tflop(CARD, make_spec(guidance_scale=guidance, num_inference_steps=steps))
            for steps in (1, 101)
        )
        return many - few

    assert steps_alone(7.5) == pytest.approx(2 * steps_alone(1.0))
    assert steps_alone(0.0) == steps_alone(1.0)


def test_time_is_arithmetic_over_assumed_or_measured_speed() -> None:
    needs = Requirements(modes=make_requirements().modes, tflop_per_image=6.0)
    cpu = make_capability(threads=4)
    gpu = make_capability(device="cuda:0", vram_bytes=GIB)
    assert estimate.seconds_per_image(needs, cpu) == pytest.approx(6 / (ASSUMED_TFLOPS["cpu"] * 4))
    assert estimate.seconds_per_image(needs, gpu) == pytest.approx(6 / ASSUMED_TFLOPS["gpu"])
    assert estimate.seconds_per_image(needs, cpu, tflops=3.0) == 2.0


def test_no_image_takes_no_time_at_all() -> None:
    assert estimate.seconds_per_image(make_requirements(), make_capability(), tflops=1e9) > 0


@given(SIDES, SIDES)
def test_a_picture_takes_between_nothing_and_its_raw_size(width: int, height: int) -> None:
    size = estimate.image_bytes(make_spec(width=width, height=height))
    assert 0 < size <= width * height * 3


def test_an_input_picture_saves_the_steps_that_strength_leaves_out() -> None:
    whole = estimate.tflop(CARD, make_spec(num_inference_steps=20))
    half = make_spec(num_inference_steps=20, kind=IMAGE_TO_IMAGE, strength=0.5)
    assert estimate.tflop(CARD, half) < 0.7 * whole


def test_an_enlarged_picture_is_a_larger_file_and_takes_longer() -> None:
    plain, enlarged = make_spec(), make_spec(upscaler=Upscaler(model="x"))
    assert estimate.image_bytes(enlarged) == pytest.approx(
        16 * estimate.image_bytes(plain), rel=1e-3
    )
    more = estimate.requirements(CARD, enlarged).tflop_per_image
    assert more > 2 * estimate.requirements(CARD, plain).tflop_per_image


def test_only_long_groups_on_cards_repay_compiling() -> None:
    needs = Requirements(modes=(), tflop_per_image=ASSUMED_TFLOPS["gpu"])  # a second an image
    assert estimate.repays_compiling(needs, 1800, on_cpu=False)
    assert not estimate.repays_compiling(needs, 1799, on_cpu=False)
    assert not estimate.repays_compiling(needs, 10**9, on_cpu=True)
