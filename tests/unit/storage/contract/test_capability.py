"""Whether a group's needs fit what a worker has."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.contract.capability import (
    Capability,
    Mode,
    ModeNeed,
    Requirements,
    Seen,
    fitted,
)
from storage.testing.factories import make_capability, make_requirements

GPU_MODES = {"resident": 8_000, "lean": 6_000, "phased": 4_000, "offload": 2_000}


def gpu(vram_bytes: int) -> Capability:
    return make_capability(device="cuda:0", vram_bytes=vram_bytes)


@pytest.mark.parametrize(
    ("vram_bytes", "mode"),
    [
        (9_000, Mode.RESIDENT),
        (8_000, Mode.RESIDENT),
        (7_999, Mode.LEAN),
        (5_000, Mode.PHASED),
        (2_000, Mode.OFFLOAD),
        (1_999, None),
    ],
)
def test_a_gpu_takes_the_fastest_mode_it_has_memory_for(vram_bytes: int, mode: Mode | None) -> None:
    need = make_requirements(**GPU_MODES).fit(gpu(vram_bytes))
    assert (need and need.mode) == mode


@pytest.mark.parametrize(("ram_bytes", "fits"), [(500, False), (501, True)])
def test_a_cpu_is_measured_by_its_host_memory(ram_bytes: int, fits: bool) -> None:
    need = make_requirements(501, **GPU_MODES).fit(make_capability(ram_bytes=ram_bytes))
    assert (need == ModeNeed(mode=Mode.CPU, memory_bytes=501)) == fits


def test_a_gpu_does_not_fall_back_to_host_memory() -> None:
    assert make_requirements(1, resident=10_000).fit(gpu(9_000)) is None


def test_a_cpu_takes_no_gpu_mode() -> None:
    only_gpu = Requirements(modes=(ModeNeed(mode=Mode.OFFLOAD, memory_bytes=1),))
    assert only_gpu.fit(make_capability()) is None


def test_the_smallest_need_is_told_per_kind_of_device() -> None:
    needs = make_requirements(77, **GPU_MODES)
    assert needs.smallest(on_cpu=True) == ModeNeed(mode=Mode.CPU, memory_bytes=77)
    assert needs.smallest(on_cpu=False) == ModeNeed(mode=Mode.OFFLOAD, memory_bytes=2_000)
    assert make_requirements().smallest(on_cpu=False) is None


def test_needs_and_capability_survive_their_way_through_sql() -> None:
    needs, capability = make_requirements(5, **GPU_MODES), gpu(24 << 30)
    assert msgspec.json.decode(msgspec.json.encode(needs), type=Requirements) == needs
    again = msgspec.json.decode(msgspec.json.encode(capability), type=Capability)
    assert again == capability
    assert again.vram_class == "gpu24"


# What was measured


RUNGS = Requirements(
    modes=(
        ModeNeed(mode=Mode.RESIDENT, memory_bytes=8_000),
        ModeNeed(mode=Mode.PHASED, memory_bytes=4_000),
        ModeNeed(mode=Mode.PHASED, memory_bytes=3_000, tiled=True),
        ModeNeed(mode=Mode.PHASED, memory_bytes=2_000, batch=1, tiled=True),
    )
)


def needed(*seen: Seen) -> list[int]:
    return [need.memory_bytes for need in fitted(RUNGS, seen).modes]


def test_nothing_measured_corrects_nothing() -> None:
    assert fitted(RUNGS, ()) is RUNGS


def test_a_measured_peak_replaces_the_formula_of_its_rung() -> None:
    assert needed(Seen(mode=Mode.RESIDENT, peak_bytes=9_000)) == [9_270, 4_000, 3_000, 2_000]


def test_a_measured_peak_bounds_the_lesser_rungs_of_its_mode_from_above() -> None:
    assert needed(Seen(mode=Mode.PHASED, peak_bytes=2_500)) == [8_000, 2_575, 2_575, 2_000]
    lesser = Seen(mode=Mode.PHASED, batch=1, tiled=True, peak_bytes=2_500)
    assert needed(lesser) == [8_000, 4_000, 3_000, 2_575]


def test_a_rung_that_ran_out_needs_more_than_there_was_and_so_do_the_greater_ones() -> None:
    assert needed(Seen(mode=Mode.PHASED, failed_bytes=5_000)) == [8_000, 5_001, 3_000, 2_000]
    least = Seen(mode=Mode.PHASED, batch=1, tiled=True, failed_bytes=5_000)
    assert needed(least) == [8_000, 5_001, 5_001, 5_001]


def test_a_batch_between_counts_for_larger_ones_alone() -> None:
    assert needed(Seen(mode=Mode.PHASED, batch=2, tiled=True, failed_bytes=5_000)) == [
        8_000,
        5_001,
        5_001,
        2_000,
    ]


@given(st.integers(1, 1 << 40), st.sampled_from(RUNGS.modes))
def test_after_one_task_its_rung_is_within_ten_percent_and_never_under(
    peak: int, rung: ModeNeed
) -> None:
    seen = Seen(mode=rung.mode, batch=rung.batch, tiled=rung.tiled, peak_bytes=peak)
    corrected = needed(seen)[RUNGS.modes.index(rung)]
    assert peak <= corrected <= peak * 1.1


@given(st.integers(1, 1 << 40), st.sampled_from(RUNGS.modes), st.integers(0, 1 << 40))
def test_what_ran_out_of_memory_is_not_tried_in_as_much_again(
    room: int, rung: ModeNeed, peak: int
) -> None:
    seen = Seen(
        mode=rung.mode, batch=rung.batch, tiled=rung.tiled, failed_bytes=room, peak_bytes=peak
    )
    fit = fitted(RUNGS, (seen,)).fit(gpu(room))
    assert fit is None or (fit.mode, fit.batch, fit.tiled) != (rung.mode, rung.batch, rung.tiled)
