"""How many images are computed at once, and by how many processes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler import estimate
from scheduler.estimate import MAX_BATCH
from storage.contract.capability import Mode, ModeNeed, Requirements
from storage.contract.classes import GIB
from storage.contract.items import BatchShape, GroupSpec
from storage.testing.factories import make_card, make_requirements, make_spec

CARD = make_card()
HUGE = make_card(parameters={"text_encoder": 5_000_000_000, "unet": 12_000_000_000, "vae": 1})
SMALL_BEHIND_LARGE = make_card(
    parameters={"text_encoder": 5_000_000_000, "unet": 600_000_000, "vae": 1}
)

SIDES = st.integers(1, 256).map(lambda side: side * 8)


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


def test_a_small_denoiser_is_batched_however_large_its_text_encoder() -> None:
    shape = estimate.batch_shape(SMALL_BEHIND_LARGE, 64, 64, 16_000, on_cpu=False)
    assert (shape.encode, shape.denoise) == (1, 16)


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


def test_processes_are_counted_in_the_best_mode_for_which_there_is_room() -> None:
    needs = Requirements(
        modes=(
            ModeNeed(mode=Mode.CPU, memory_bytes=10 * GIB),
            ModeNeed(mode=Mode.CPU_PHASED, memory_bytes=3 * GIB),
        )
    )
    assert estimate.cpu_workers(needs, 1, 8, 40 * GIB) == 3
    assert estimate.cpu_workers(needs, 1, 8, 10 * GIB) == 2
    assert estimate.cpu_workers(needs, 1, 8, 1 * GIB) == 1
