"""Whether a group's needs fit what a worker has."""

from __future__ import annotations

import msgspec
import pytest

from storage.contract.capability import Capability, Mode, ModeNeed, Requirements
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
