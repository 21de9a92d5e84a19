"""A card's memory: its limit, the ladder, what estimates say of it, and a context that dies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from scheduler.estimate import requirements
from storage.contract.capability import Mode, Seen, fitted
from storage.contract.items import COMPILED, BatchShape, GroupSpec
from storage.models.resolve import describe
from storage.testing.factories import make_item, make_spec
from tests.benchmarks.engine.models import stable_diffusion_1_5
from workers.engine.families.registry import ADAPTERS
from workers.engine.families.stable_diffusion import StableDiffusion
from workers.probe import probe

MODES = (Mode.RESIDENT, Mode.LEAN, Mode.PHASED)
ITEMS = tuple(make_item(n, prompt=f"a thing {n}", seed=n) for n in range(4))


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stable Diffusion 1.5 with random weights: 2 GB in 16 bit."""
    folder = tmp_path_factory.mktemp("full") / "sd"
    stable_diffusion_1_5(folder, torch.float16)
    return folder


@pytest.fixture
def half(full_size: Path) -> GroupSpec:
    return make_spec(
        model=str(full_size),
        width=512,
        height=512,
        num_inference_steps=4,
        dtype="float16",
        denoise=4,
    )


@pytest.fixture
def tiny(tiny_model: Path) -> GroupSpec:
    return make_spec(model=str(tiny_model), num_inference_steps=3, denoise=4)


@pytest.mark.slow
def test_what_needs_more_than_the_card_may_give_comes_out_the_same(
    open_card: Any, make_renderer: Any, render: Any, half: GroupSpec
) -> None:
    large = render(make_renderer(open_card()), half, Mode.RESIDENT, ITEMS)
    limit = large.facts[-1].peak_bytes * 2 // 3

    small = render(make_renderer(open_card(limit=limit)), half, Mode.RESIDENT, ITEMS)

    assert small.steps_down
    assert small.facts[-1].peak_bytes <= limit
    for ours, theirs in zip(small.pixels(), large.pixels(), strict=True):
        apart = np.abs(ours.astype(int) - theirs.astype(int))
        assert apart.mean() < 1  # in float16, at another batch shape
    again = render(make_renderer(open_card(limit=limit)), half, small.facts[-1].mode, ITEMS)
    assert not again.ran_out


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_the_estimate_covers_the_peak_and_comes_near_it_once_measured(
    open_card: Any, make_renderer: Any, render: Any, half: GroupSpec, mode: Mode
) -> None:
    needs = requirements(describe(half.model), half)

    peak = render(make_renderer(open_card()), half, mode, ITEMS).facts[-1].peak_bytes

    (guess,) = (n.memory_bytes for n in needs.modes if n.mode is mode and not n.batch | n.tiled)
    assert guess >= 0.95 * peak
    learned = fitted(needs, (Seen(mode=mode, peak_bytes=peak),))
    (known,) = (n.memory_bytes for n in learned.modes if n.mode is mode and not n.batch | n.tiled)
    assert peak <= known <= 1.1 * peak


class _Full(StableDiffusion):
    """Asks for more than any card has, once, in one of its phases."""

    def __init__(self, phase: str, device: str) -> None:
        super().__init__()
        self._phase, self._device = phase, device

    def _fill(self, phase: str) -> None:
        if phase == self._phase:
            self._phase = ""
            torch.empty(1 << 50, dtype=torch.uint8, device=self._device)

    def encode(self, *arguments: Any, **options: Any) -> Any:
        self._fill("encode")
        return super().encode(*arguments, **options)

    def denoise(self, *arguments: Any, **options: Any) -> Any:
        self._fill("denoise")
        return super().denoise(*arguments, **options)

    def decode(self, *arguments: Any, **options: Any) -> Any:
        self._fill("decode")
        return super().decode(*arguments, **options)


@pytest.mark.parametrize("phase", ["encode", "denoise", "decode"])
def test_out_of_memory_in_any_phase_is_a_step_down(
    open_card: Any,
    make_renderer: Any,
    render: Any,
    device_name: str,
    tiny: GroupSpec,
    monkeypatch: pytest.MonkeyPatch,
    phase: str,
) -> None:
    right = render(make_renderer(open_card()), tiny, Mode.RESIDENT, ITEMS).pixels()
    monkeypatch.setitem(ADAPTERS, "stable-diffusion", _Full(phase, device_name))

    result = render(make_renderer(open_card()), tiny, Mode.RESIDENT, ITEMS)

    assert result.steps_down == ("mode lean",)
    assert all(np.array_equal(*two) for two in zip(result.pixels(), right, strict=True))


_DYING = """
import sys, torch
from storage.contract.capability import Mode, ModeNeed
from storage.contract.errors import DeviceLost
from storage.testing.factories import make_item, make_spec
from tests.models.rendering import rendered
from workers.engine.devices import open_device
from workers.engine.diffusion import DiffusionRenderer
from workers.engine.families.registry import ADAPTERS
from workers.engine.families.stable_diffusion import StableDiffusion

class Dying(StableDiffusion):
    def denoise(self, *given):
        torch.zeros(1, device="cuda:0")[torch.full((1,), 9, device="cuda:0")]
        torch.cuda.synchronize()

ADAPTERS["stable-diffusion"] = Dying()
renderer = DiffusionRenderer(device=open_device("cuda:0"), kind="a card", dtypes=("float32",))
spec = make_spec(model=sys.argv[1], num_inference_steps=2, denoise=1)
try:
    rendered(renderer, spec, ModeNeed(mode=Mode.RESIDENT, memory_bytes=0), [make_item(0)])
except DeviceLost as error:
    sys.exit(f"lost: {error.message}")
"""


def test_a_dead_context_is_told_as_the_loss_of_the_device(tiny_model: Path) -> None:
    """In a process of its own, which nothing can be computed in afterwards."""
    done = subprocess.run(
        [sys.executable, "-c", _DYING, str(tiny_model)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 1
    assert "lost: CUDA error: device-side assert triggered" in done.stderr


def test_the_best_dtype_of_the_card_is_taken_unless_another_is_asked_for(
    open_card: Any,
    make_renderer: Any,
    render: Any,
    device_name: str,
    tiny: GroupSpec,
    tmp_path: Path,
) -> None:
    capability = probe(device_name, threads=1, home=tmp_path)
    renderer = make_renderer(open_card(), dtypes=capability.dtypes)
    exact = msgspec.structs.replace(tiny, dtype="float32")

    facts = [render(renderer, one, Mode.RESIDENT, ITEMS).facts[-1] for one in (tiny, exact)]

    half = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    assert capability.dtypes == (half, "float32")
    assert [one.dtype for one in facts] == [half, "float32"]


@pytest.mark.slow
@pytest.mark.parametrize("mode", [Mode.RESIDENT, Mode.OFFLOAD])
def test_blocks_are_compiled_where_a_group_asks_and_they_stay(
    open_card: Any, make_renderer: Any, render: Any, tiny: GroupSpec, mode: Mode
) -> None:
    plain = render(make_renderer(open_card()), tiny, mode, ITEMS)
    asked = msgspec.structs.replace(tiny, compile=COMPILED)

    result = render(make_renderer(open_card()), asked, mode, ITEMS)

    assert not plain.facts[-1].compiled
    assert result.facts[-1].compiled is (mode is not Mode.OFFLOAD)
    for ours, theirs in zip(result.pixels(), plain.pixels(), strict=True):
        assert np.abs(ours.astype(int) - theirs.astype(int)).mean() < 1


def test_what_is_free_and_what_was_taken_are_told(
    open_card: Any, make_renderer: Any, render: Any, tiny: GroupSpec
) -> None:
    card = open_card()
    before = card.free_bytes()

    peaks = [
        render(make_renderer(card), tiny, mode, ITEMS).facts[-1].peak_bytes
        for mode in (Mode.RESIDENT, Mode.OFFLOAD)
    ]

    assert 0 < card.free_bytes() <= card.room_bytes()
    assert before - card.free_bytes() < 2 * peaks[0]
    assert 0 < peaks[1] <= peaks[0]


def test_one_batch_after_another_leaves_nothing_behind(
    open_card: Any, make_renderer: Any, render: Any, tiny: GroupSpec
) -> None:
    renderer = make_renderer(open_card())
    one = msgspec.structs.replace(tiny, batch=BatchShape(encode=4, denoise=1, decode=1))
    render(renderer, one, Mode.RESIDENT, ITEMS[:1])
    taken = torch.cuda.memory_allocated()

    render(renderer, one, Mode.RESIDENT, ITEMS)

    assert torch.cuda.memory_allocated() <= taken + (1 << 20)
