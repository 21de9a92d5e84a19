"""Memory that runs out and numbers that are not finite, in each phase of a task with pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from storage.contract.capability import Mode
from storage.contract.items import IMAGE_TO_IMAGE, GroupSpec
from storage.contract.outcomes import Reason
from tests.models import kinds
from workers.engine.devices import SimulatedCard, open_device
from workers.engine.diffusion import DiffusionRenderer
from workers.engine.families.base import Bench
from workers.engine.families.registry import ADAPTERS
from workers.engine.families.stable_diffusion import StableDiffusion

GIB = 2**30
PHASES = ("encode", "condition", "denoise", "decode")

Make = Callable[..., DiffusionRenderer]
Render = Callable[..., Any]


@pytest.fixture
def spec(tiny_model: Path) -> GroupSpec:
    """Three items in batches of two."""
    return kinds.spec_of(tiny_model, kind=IMAGE_TO_IMAGE, strength=0.6)


class Faulty(StableDiffusion):
    """Calls `fault` with what a phase made, in that phase alone."""

    def __init__(self, phase: str, fault: Callable[[Bench, Any], Any]) -> None:
        super().__init__()
        self._phase, self._fault = phase, fault

    def encode(self, bench: Bench, *arguments: Any, **options: Any) -> Any:
        return self._made("encode", bench, super().encode(bench, *arguments, **options))

    def condition(self, bench: Bench, *arguments: Any) -> Any:
        return self._made("condition", bench, super().condition(bench, *arguments))

    def denoise(self, bench: Bench, *arguments: Any) -> Any:
        return self._made("denoise", bench, super().denoise(bench, *arguments))

    def decode(self, bench: Bench, *arguments: Any) -> Any:
        return self._made("decode", bench, super().decode(bench, *arguments))

    def _made(self, phase: str, bench: Bench, made: Any) -> Any:
        return self._fault(bench, made) if phase == self._phase else made


def full_at(times: int) -> Callable[[Bench, Any], Any]:
    """Runs out of memory so many times."""
    left = [times]

    def fault(_bench: Bench, made: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return made

    return fault


def spoilt(*, also_in_float32: bool) -> Callable[[Bench, Any], Any]:
    """The first row of what a phase made is not finite."""

    def fault(bench: Bench, made: Any) -> Any:
        if bench.dtype == torch.float32 and not also_in_float32:
            return made
        first, *rest = made
        if isinstance(first, dict):
            return [{name: value * float("nan") for name, value in first.items()}, *rest]
        return torch.stack([first * float("nan"), *rest])

    return fault


def task_of(render: Render, renderer: DiffusionRenderer, spec: GroupSpec, mode: Mode) -> Any:
    return render(renderer, spec, mode, items=kinds.ITEMS)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("times", [1, 2])
def test_out_of_memory_is_a_step_down_and_no_pixel_changes(
    make_renderer: Make,
    render: Render,
    spec: GroupSpec,
    monkeypatch: pytest.MonkeyPatch,
    phase: str,
    times: int,
) -> None:
    sources = kinds.Drawings()
    right = task_of(
        render, make_renderer(SimulatedCard(GIB), sources=sources), spec, Mode.RESIDENT
    ).pictures
    monkeypatch.setitem(ADAPTERS, "stable-diffusion", Faulty(phase, full_at(times)))

    renderer = make_renderer(SimulatedCard(GIB), sources=sources)
    result = task_of(render, renderer, spec, Mode.RESIDENT)

    assert result.steps_down == ("mode lean", "mode phased")[:times]
    assert [need.mode for need in result.ran_out] == [Mode.RESIDENT, Mode.LEAN][:times]
    for number, picture in result.pictures.items():
        assert np.array_equal(np.asarray(picture.pixels), np.asarray(right[number].pixels))


def test_a_condition_that_never_fits_is_computed_for_fewer_and_then_in_tiles(
    make_renderer: Make, render: Render, spec: GroupSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ADAPTERS, "stable-diffusion", Faulty("condition", full_at(4)))

    renderer = make_renderer(SimulatedCard(GIB), sources=kinds.Drawings())
    result = task_of(render, renderer, spec, Mode.RESIDENT)

    assert result.steps_down == ("mode lean", "mode phased", "batch 1", "tiled")
    assert sorted(result.pictures) == [0, 1, 2]
    assert not [picture for picture in result.pictures.values() if picture.fault]


@pytest.mark.parametrize("phase", PHASES)
def test_what_is_not_finite_in_half_precision_comes_out_in_float32(
    make_renderer: Make,
    render: Render,
    spec: GroupSpec,
    monkeypatch: pytest.MonkeyPatch,
    phase: str,
) -> None:
    half = msgspec.structs.replace(spec, dtype="bfloat16")
    sources = kinds.Drawings()
    unharmed = task_of(
        render, make_renderer(open_device("cpu"), sources=sources), half, Mode.CPU
    ).pictures
    exact = task_of(
        render, make_renderer(open_device("cpu"), sources=sources), spec, Mode.CPU
    ).pictures
    monkeypatch.setitem(ADAPTERS, "stable-diffusion", Faulty(phase, spoilt(also_in_float32=False)))

    renderer = make_renderer(open_device("cpu"), sources=sources)
    pictures = task_of(render, renderer, half, Mode.CPU).pictures

    again = {n for n, picture in pictures.items() if picture.retried_in == "float32"}
    assert 0 in again
    assert not [picture for picture in pictures.values() if picture.fault]
    for number, picture in pictures.items():
        if number not in again:
            assert np.array_equal(np.asarray(picture.pixels), np.asarray(unharmed[number].pixels))
        elif picture.retried_phase is None:
            assert np.array_equal(np.asarray(picture.pixels), np.asarray(exact[number].pixels))


@pytest.mark.parametrize("phase", PHASES)
def test_what_is_never_finite_is_a_fault_of_its_items_alone(
    make_renderer: Make,
    render: Render,
    spec: GroupSpec,
    monkeypatch: pytest.MonkeyPatch,
    phase: str,
) -> None:
    sources = kinds.Drawings()
    right = task_of(
        render, make_renderer(open_device("cpu"), sources=sources), spec, Mode.CPU
    ).pictures
    monkeypatch.setitem(ADAPTERS, "stable-diffusion", Faulty(phase, spoilt(also_in_float32=True)))

    renderer = make_renderer(open_device("cpu"), sources=sources)
    pictures = task_of(render, renderer, spec, Mode.CPU).pictures

    faulty = {n: one for n, one in pictures.items() if one.fault}
    assert 0 in faulty
    assert {one.fault for one in faulty.values()} == {Reason.NAN}
    for number in pictures.keys() - faulty.keys():
        assert np.array_equal(np.asarray(pictures[number].pixels), np.asarray(right[number].pixels))
