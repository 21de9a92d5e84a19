"""The denoiser compiled, where a group asks for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
import structlog
import torch

from storage.contract.capability import Mode
from storage.contract.items import COMPILED, GroupSpec
from workers.engine.compiling import compiles, timed
from workers.engine.devices import open_device
from workers.engine.diffusion import DiffusionRenderer
from workers.engine.pool import Part

Make = Callable[..., DiffusionRenderer]
Render = Callable[..., Any]


@pytest.fixture
def compiler(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler of C++, which torch calls; what it makes is gone afterwards."""
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("no compiler of C++")
    folder = tmp_path_factory.mktemp("inductor")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder))


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def pixels_of(result: Any) -> Any:
    assert not [picture.detail for picture in result.pictures.values() if picture.fault]
    return np.stack([result.pictures[n].pixels for n in sorted(result.pictures)]).astype(int)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_compiled_denoiser_makes_the_same_pictures_and_is_undone_for_the_next_group(
    compiler: None, make_renderer: Make, render: Render, spec: GroupSpec
) -> None:
    renderer = make_renderer(open_device("cpu"))
    compiled = msgspec.structs.replace(spec, compile=COMPILED)

    with structlog.testing.capture_logs() as logs:
        plain, fast, again = (render(renderer, one) for one in (spec, compiled, spec))

    assert np.abs(pixels_of(plain) - pixels_of(fast)).max() <= 1
    assert np.array_equal(pixels_of(again), pixels_of(plain))
    assert [one.facts[-1].compiled for one in (plain, fast, again)] == [False, True, False]
    assert [log["component"] for log in logs if log.get("action") == "compiled"] == ["unet"]


def test_only_whole_denoisers_on_devices_that_can_are_compiled(spec: GroupSpec) -> None:
    asked = msgspec.structs.replace(spec, compile=COMPILED)
    assert compiles(open_device("cpu"), asked, Mode.CPU)
    assert not compiles(open_device("cpu"), spec, Mode.CPU)
    assert not compiles(open_device("cpu"), asked, Mode.OFFLOAD)
    assert not compiles(open_device("cpu", limit=1 << 30), asked, Mode.RESIDENT)


def test_how_long_compiling_took_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 10.0, 10.5, 11.0])
    clock = SimpleNamespace(monotonic=lambda: next(moments))
    monkeypatch.setattr("workers.engine.compiling.time", clock)
    part = Part(key="k", name="unet", module=None, bytes=0, just_compiled=True)
    steps: list[int] = []
    with structlog.testing.capture_logs() as logs:
        on_step = timed(part, steps.append)
        for step in (1, 2, 3):
            on_step(step)
        timed(part, steps.append)(4)
    assert [log["seconds"] for log in logs] == [9.5]
    assert steps == [1, 2, 3, 4]
