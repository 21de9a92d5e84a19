"""How much memory, time and space a group needs."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler import estimate
from scheduler.estimate import ASSUMED_TFLOPS, MAX_BATCH
from storage.contract.capability import Mode, Requirements
from storage.contract.classes import GIB
from storage.contract.items import BatchShape, GroupSpec
from storage.testing.factories import make_capability, make_card, make_requirements, make_spec

CARD = make_card()
SD15 = make_card(
    model="sd15",
    width=512,
    height=512,
    parameters={"text_encoder": 123_060_480, "unet": 859_520_964, "vae": 83_653_863},
    weight_bytes=4_265_000_000,
)
HUGE = make_card(parameters={"text_encoder": 5_000_000_000, "unet": 12_000_000_000, "vae": 1})

SIDES = st.integers(1, 256).map(lambda side: side * 8)


def memory(card: Any = CARD, **spec: Any) -> dict[Mode, int]:
    needs = estimate.requirements(card, make_spec(**spec))
    return {need.mode: need.memory_bytes for need in needs.modes}


# Batches


@given(SIDES, SIDES, st.integers(1, 10**9), st.booleans())
def test_a_batch_is_within_bounds_and_no_longer_than_its_group(
    width: int, height: int, length: int, on_cpu: bool
) -> None:
    shape = estimate.batch_shape(CARD, width, height, length, on_cpu=on_cpu)
    assert 1 <= shape.denoise <= min(MAX_BATCH, length)
    assert 1 <= shape.decode <= shape.denoise
    assert shape.encode >= 1
    # Less than one batch is computed for nothing, over the whole group.
    batches = -(-length // shape.denoise)
    assert batches * shape.denoise - length < batches


@given(SIDES, st.integers(1, 10**6), st.booleans())
def test_larger_images_never_get_larger_batches(side: int, length: int, on_cpu: bool) -> None:
    small = estimate.batch_shape(CARD, side, side, length, on_cpu=on_cpu)
    large = estimate.batch_shape(CARD, side * 2, side * 2, length, on_cpu=on_cpu)
    assert large.denoise <= small.denoise
    assert large.decode <= small.decode


@pytest.mark.parametrize(
    ("side", "on_cpu", "shape"),
    [
        (64, True, BatchShape(encode=8, denoise=16, decode=16)),
        (128, True, BatchShape(encode=8, denoise=4, decode=4)),
        (256, True, BatchShape(encode=8, denoise=1, decode=1)),
        (512, True, BatchShape(encode=8, denoise=1, decode=1)),
        (64, False, BatchShape(encode=8, denoise=16, decode=16)),
        (512, False, BatchShape(encode=8, denoise=4, decode=1)),
        (1024, False, BatchShape(encode=8, denoise=1, decode=1)),
    ],
)
def test_batches_are_as_large_as_they_pay(side: int, on_cpu: bool, shape: BatchShape) -> None:
    assert estimate.batch_shape(CARD, side, side, 16_000, on_cpu=on_cpu) == shape


def test_large_models_are_not_batched() -> None:
    assert estimate.batch_shape(HUGE, 64, 64, 16_000, on_cpu=False).denoise == 1


def test_a_group_a_little_longer_than_its_batches_is_split_evenly() -> None:
    assert estimate.batch_shape(CARD, 64, 64, 16 * 6 + 4, on_cpu=True).denoise == 15


@pytest.mark.parametrize(("length", "batch"), [(36, 9), (20, 7), (16, 8), (5, 5), (1, 1)])
def test_a_small_job_gives_several_workers_something_to_do(length: int, batch: int) -> None:
    assert estimate.batch_shape(CARD, 64, 64, length, on_cpu=True).denoise == batch


# Memory


@given(SIDES, SIDES, st.integers(1, 15))
def test_more_needs_more_memory_in_every_mode(width: int, height: int, batch: int) -> None:
    base = memory(width=width, height=height, denoise=batch)
    for larger in (
        memory(width=width, height=height, denoise=batch + 1),
        memory(width=width + 8, height=height, denoise=batch),
        memory(width=width, height=height + 8, denoise=batch),
        memory(SD15, width=width, height=height, denoise=batch),
    ):
        assert all(larger[mode] > needed for mode, needed in base.items())


@given(SIDES, st.integers(1, 16))
def test_a_gpu_and_a_cpu_mode_are_always_there(side: int, batch: int) -> None:
    needs = estimate.requirements(CARD, make_spec(width=side, height=side, denoise=batch))
    assert needs.smallest(on_cpu=True) is not None
    assert needs.smallest(on_cpu=False) is not None
    assert all(need.memory_bytes > 0 for need in needs.modes)
    assert needs.disk_bytes == CARD.weight_bytes


def test_half_precision_needs_less_memory_than_full() -> None:
    assert all(
        memory(dtype="float16")[mode] < needed for mode, needed in memory(dtype="float32").items()
    )


def test_a_well_known_model_needs_about_what_is_known_of_it() -> None:
    spec = {"width": 512, "height": 512, "batch": BatchShape(encode=8, denoise=1, decode=1)}
    needed = memory(SD15, **spec)
    assert 2.5 * GIB < needed[Mode.RESIDENT] < 5 * GIB
    assert 4 * GIB < needed[Mode.CPU] < 8 * GIB


# Time


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


# Processes


@given(SIDES, SIDES, st.integers(1, 256), st.integers(1, 16), st.integers(1, 500))
def test_threads_depend_on_the_group_and_the_machine_alone(
    width: int, height: int, cores: int, batch: int, steps: int
) -> None:
    spec = make_spec(width=width, height=height)
    other: GroupSpec = make_spec(
        width=width, height=height, denoise=batch, num_inference_steps=steps, model="other"
    )
    threads = estimate.cpu_threads(spec, cores)
    assert threads == estimate.cpu_threads(other, cores)
    assert threads == (1 if width * height <= 256 * 256 else cores)


@given(st.integers(1, 64), st.integers(1, 64), st.integers(0, 256 * GIB), st.integers(1, 64 * GIB))
def test_workers_fit_the_cores_and_the_memory_and_there_is_always_one(
    threads: int, cores: int, free: int, needed: int
) -> None:
    count = estimate.cpu_workers(make_requirements(needed), threads, cores, free)
    assert count >= 1
    if count > 1:
        assert count * threads <= cores
        assert count * needed <= free


def test_a_group_that_says_nothing_of_cpus_gets_a_worker_for_every_core() -> None:
    assert estimate.cpu_workers(Requirements(modes=()), 2, 8, 16 * GIB) == 4
