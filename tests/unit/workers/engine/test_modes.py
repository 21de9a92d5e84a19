"""The modes, the memory ladder and the pool, on a simulated card and with faults ordered."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from storage.contract.capability import Mode, ModeNeed, Requirements, Seen, fitted
from storage.contract.errors import DeviceLost, OutOfMemory
from storage.contract.items import BatchShape, GroupSpec, Item
from workers.engine import benches
from workers.engine.batching import plan
from workers.engine.components import Source, load_component, source_in
from workers.engine.devices import SimulatedCard, open_device
from workers.engine.diffusion import DiffusionRenderer
from workers.engine.families.base import Bench
from workers.engine.families.registry import ADAPTERS
from workers.engine.families.stable_diffusion import StableDiffusion
from workers.engine.ports import Picture, Watch

GIB = 2**30
CARD_MODES = (Mode.RESIDENT, Mode.LEAN, Mode.PHASED, Mode.OFFLOAD)

Make = Callable[..., DiffusionRenderer]
Render = Callable[..., Any]


def same(one: dict[int, Picture], other: dict[int, Picture]) -> bool:
    """Bit for bit."""
    assert one.keys() == other.keys()
    return all(
        picture.pixels is not None and np.array_equal(picture.pixels, np.asarray(other[n].pixels))
        for n, picture in one.items()
    )


def largest_difference(one: dict[int, Picture], other: dict[int, Picture]) -> int:
    return max(
        int(np.abs(np.asarray(p.pixels, int) - np.asarray(other[n].pixels, int)).max())
        for n, p in one.items()
    )


@pytest.fixture
def reference(make_renderer: Make, render: Render, spec: GroupSpec) -> dict[int, Picture]:
    """The pictures on a CPU with nothing in the way."""
    pictures: dict[int, Picture] = render(make_renderer(open_device("cpu")), spec).pictures
    return pictures


@pytest.mark.parametrize("mode", CARD_MODES)
def test_a_mode_changes_no_bit(
    make_renderer: Make,
    render: Render,
    spec: GroupSpec,
    reference: dict[int, Picture],
    mode: Mode,
) -> None:
    card = SimulatedCard(GIB)

    result = render(make_renderer(card), spec, mode)

    assert same(result.pictures, reference)
    assert {facts.mode for facts in result.facts} == {mode}
    assert result.steps_down == ()


def test_a_cpu_with_one_component_at_a_time_changes_no_bit(
    make_renderer: Make, render: Render, spec: GroupSpec, reference: dict[int, Picture]
) -> None:
    renderer = make_renderer(open_device("cpu"))

    result = render(renderer, spec, Mode.CPU_PHASED)

    assert same(result.pictures, reference)
    assert {part.name for part in renderer.pool._parts.values()} == {"vae"}


def test_each_mode_takes_less_than_the_one_before(
    make_renderer: Make, render: Render, spec: GroupSpec
) -> None:
    peaks = []
    for mode in CARD_MODES:
        card = SimulatedCard(GIB)
        peaks.append(render(make_renderer(card), spec, mode).facts[-1].peak_bytes)

    assert peaks == sorted(peaks, reverse=True)
    assert len(set(peaks)) == len(peaks)


def test_phased_takes_the_largest_component_and_its_activations(
    make_renderer: Make, render: Render, spec: GroupSpec
) -> None:
    card = SimulatedCard(GIB)
    renderer = make_renderer(card)
    peak = render(renderer, spec, Mode.PHASED).facts[-1].peak_bytes
    weights = {part.name: part.bytes for part in renderer.pool._parts.values()}

    alone = []
    for phase_mode in (Mode.RESIDENT,):
        whole = SimulatedCard(GIB)
        everything = render(make_renderer(whole), spec, phase_mode).facts[-1].peak_bytes
        alone.append(everything - sum(weights.values()))

    assert peak <= (max(weights.values()) + alone[0]) * 1.1


@pytest.mark.parametrize("mode", CARD_MODES)
def test_after_a_task_only_weights_take_memory(
    make_renderer: Make, render: Render, spec: GroupSpec, mode: Mode
) -> None:
    card = SimulatedCard(GIB)
    renderer = make_renderer(card)

    render(renderer, spec, mode)
    gc.collect()

    assert card.meter.live == 0
    renderer.pool.only(())
    assert card.meter.taken == 0


def test_a_job_for_a_large_card_completes_on_a_small_one_with_the_same_pictures(
    make_renderer: Make, render: Render, spec: GroupSpec, reference: dict[int, Picture]
) -> None:
    large = SimulatedCard(GIB)
    needed = render(make_renderer(large), spec, Mode.RESIDENT).facts[-1].peak_bytes

    small = render(make_renderer(SimulatedCard(needed // 3)), spec, Mode.RESIDENT)

    assert largest_difference(small.pictures, reference) <= 1
    assert not any(picture.fault for picture in small.pictures.values())
    assert small.steps_down[:2] == ("mode lean", "mode phased")
    assert [need.mode for need in small.ran_out][:2] == [Mode.RESIDENT, Mode.LEAN]
    assert {need.memory_bytes for need in small.ran_out} == {needed // 3}


def test_the_second_task_of_a_kind_begins_where_the_first_one_got_to(
    make_renderer: Make, render: Render, spec: GroupSpec
) -> None:
    renderer = make_renderer(SimulatedCard(4_500_000))
    first = render(renderer, spec, Mode.RESIDENT)

    second = render(renderer, spec, Mode.RESIDENT)

    assert first.ran_out
    assert second.ran_out == []
    assert second.steps_down == first.steps_down
    assert second.facts[0].steps_down == first.steps_down


def test_a_claim_that_knows_the_rung_begins_there(
    make_renderer: Make, render: Render, spec: GroupSpec, reference: dict[int, Picture]
) -> None:
    rung = ModeNeed(mode=Mode.PHASED, memory_bytes=5, batch=2, tiled=True)

    result = render(make_renderer(SimulatedCard(GIB)), spec, rung=rung)

    assert result.steps_down == ("batch 2", "tiled")
    assert result.facts[0].batch == BatchShape(encode=8, denoise=2, decode=1)
    for number, picture in result.pictures.items():
        # A decoder with random weights normalizes each tile by itself; it is the same picture.
        assert min(reference, key=lambda n: _distance(picture, reference[n])) == number


def _distance(one: Picture, other: Picture) -> float:
    return float(np.abs(np.asarray(one.pixels, int) - np.asarray(other.pixels, int)).mean())


def test_a_card_too_small_for_anything_says_what_was_tried(
    make_renderer: Make, render: Render, spec: GroupSpec
) -> None:
    with pytest.raises(OutOfMemory, match=r"no lesser mode is left.*500000 bytes.*mode offload"):
        render(make_renderer(SimulatedCard(500_000)), spec, Mode.RESIDENT)


def test_where_nothing_is_left_no_rung_of_the_card_counts_as_fitting(
    make_renderer: Make, spec: GroupSpec, items: tuple[Item, ...]
) -> None:
    """Else a claim would offer a rung the ladder passed over, fail in it, and so on for ever."""
    told: list[ModeNeed] = []
    watch = Watch(tell=lambda *_: None, stop_after_batch=lambda: False, ran_out=told.append)
    batches = plan(items, first_item=0, group_first_item=0, batch_size=spec.batch.denoise)
    renderer = make_renderer(SimulatedCard(500_000))

    with pytest.raises(OutOfMemory):
        list(renderer.render(spec, ModeNeed(mode=Mode.OFFLOAD, memory_bytes=0), batches, watch))

    seen = tuple(
        Seen(mode=n.mode, batch=n.batch, tiled=n.tiled, failed_bytes=n.memory_bytes) for n in told
    )
    rungs = [
        ModeNeed(mode=mode, memory_bytes=1, batch=batch, tiled=tiled)
        for mode in Mode
        if not mode.on_cpu
        for batch in (0, 2, 1)
        for tiled in (False, True)
    ]
    assert all(
        need.memory_bytes > 500_000 for need in fitted(Requirements(modes=tuple(rungs)), seen).modes
    )


class _FullInFloat32(StableDiffusion):
    """Makes nothing finite but in float32, for which there is no memory at first."""

    def __init__(self) -> None:
        super().__init__()
        self.full = 1

    def denoise(self, bench: Bench, *arguments: Any, **options: Any) -> Any:
        latents = super().denoise(bench, *arguments, **options)
        if bench.dtype != torch.float32:
            return latents * float("nan")
        if self.full:
            self.full -= 1
            raise FULL
        return latents


def test_a_repetition_in_float32_teaches_nothing_about_the_usual_memory(
    make_renderer: Make, render: Render, spec: GroupSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = _FullInFloat32()
    monkeypatch.setitem(ADAPTERS, "stable-diffusion", adapter)
    half = msgspec.structs.replace(spec, dtype="bfloat16")

    result = render(make_renderer(SimulatedCard(GIB)), half, Mode.RESIDENT)

    assert adapter.full == 0
    assert {picture.retried_in for picture in result.pictures.values()} == {"float32"}
    assert result.ran_out == []


class _Full(StableDiffusion):
    """Runs out of memory `times` times in one of its phases."""

    def __init__(self, phase: str, times: int, error: Exception) -> None:
        super().__init__()
        self._phase, self.left, self._error = phase, times, error

    def _fill(self, phase: str) -> None:
        if phase == self._phase and self.left:
            self.left -= 1
            raise self._error

    def encode(self, *arguments: Any, **options: Any) -> Any:
        self._fill("encode")
        return super().encode(*arguments, **options)

    def denoise(self, *arguments: Any, **options: Any) -> Any:
        self._fill("denoise")
        return super().denoise(*arguments, **options)

    def decode(self, *arguments: Any, **options: Any) -> Any:
        self._fill("decode")
        return super().decode(*arguments, **options)


FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.mark.parametrize(
    ("phase", "times", "steps"),
    [
        ("encode", 1, ("mode lean",)),
        ("encode", 3, ("mode lean", "mode phased", "encode 4")),
        ("denoise", 2, ("mode lean", "mode phased")),
        ("denoise", 3, ("mode lean", "mode phased", "batch 2")),
        ("denoise", 5, ("mode lean", "mode phased", "mode offload")),
        ("decode", 3, ("mode lean", "mode phased", "decode 2")),
        ("decode", 5, ("mode lean", "mode phased", "decode 2", "decode 1", "tiled")),
    ],
)
def test_out_of_memory_in_any_phase_is_a_step_down(
    make_renderer: Make,
    render: Render,
    spec: GroupSpec,
    reference: dict[int, Picture],
    monkeypatch: pytest.MonkeyPatch,
    phase: str,
    times: int,
    steps: tuple[str, ...],
) -> None:
    monkeypatch.setitem(ADAPTERS, "stable-diffusion", _Full(phase, times, FULL))

    result = render(make_renderer(SimulatedCard(GIB)), spec, Mode.RESIDENT)

    assert result.steps_down == steps
    assert len(result.ran_out) == times
    assert result.pictures.keys() == reference.keys()
    if "tiled" not in steps:
        assert largest_difference(result.pictures, reference) <= 1


def test_pictures_done_before_the_memory_ran_out_are_not_rendered_again(
    make_renderer: Make, render: Render, spec: GroupSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SecondBatch(StableDiffusion):
        calls = 0

        def denoise(self, *arguments: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls == 2:
                raise FULL
            return super().denoise(*arguments, **options)

    adapter = SecondBatch()
    monkeypatch.setitem(ADAPTERS, "stable-diffusion", adapter)

    result = render(make_renderer(SimulatedCard(GIB)), spec, Mode.RESIDENT)

    assert adapter.calls == 3  # one for each batch, and the one that failed
    assert [facts.steps_down for facts in result.facts] == [(), ("mode lean",)]


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] can't allocate memory")]
)
def test_what_other_allocators_say_counts_as_out_of_memory(
    make_renderer: Make,
    render: Render,
    spec: GroupSpec,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    monkeypatch.setitem(ADAPTERS, "stable-diffusion", _Full("denoise", 1, error))

    result = render(make_renderer(open_device("cpu")), spec)

    assert result.steps_down == ("mode cpu-phased",)


def test_a_dead_context_is_no_reason_for_a_smaller_step(
    make_renderer: Make, render: Render, spec: GroupSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = RuntimeError("CUDA error: an illegal memory access was encountered")
    monkeypatch.setitem(ADAPTERS, "stable-diffusion", _Full("denoise", 1, dead))

    with pytest.raises(DeviceLost, match="illegal memory access"):
        render(make_renderer(SimulatedCard(GIB)), spec, Mode.RESIDENT)


def test_an_exception_while_blocks_are_streamed_leaves_a_sound_model(
    make_renderer: Make,
    render: Render,
    spec: GroupSpec,
    reference: dict[int, Picture],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    renderer = make_renderer(SimulatedCard(GIB))
    unet = type(load_component(_unet_of(spec)))
    forward = unet.forward
    calls = []

    def failing(self: Any, *arguments: Any, **options: Any) -> Any:
        calls.append(1)
        result = forward(self, *arguments, **options)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("in the middle")
        return result

    monkeypatch.setattr(unet, "forward", failing)

    result = render(renderer, spec, Mode.OFFLOAD)

    assert result.steps_down == ("batch 2",)
    assert largest_difference(result.pictures, reference) <= 1


def _unet_of(spec: GroupSpec) -> Source:
    return source_in(Path(spec.model), "unet", "float32")


def test_told_to_stop_what_is_denoised_is_still_decoded(
    make_renderer: Make, render: Render, spec: GroupSpec, reference: dict[int, Picture]
) -> None:
    result = render(make_renderer(SimulatedCard(GIB)), spec, Mode.PHASED, stop=lambda: True)

    assert sorted(result.pictures) == [0, 1, 2, 3]
    assert same(result.pictures, {n: reference[n] for n in range(4)})


def test_one_model_after_another_and_the_first_again_loads_each_once(
    make_renderer: Make,
    render: Render,
    spec: GroupSpec,
    tmp_path: Path,
    reference: dict[int, Picture],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import shutil

    other = msgspec.structs.replace(spec, model=str(shutil.copytree(spec.model, tmp_path / "b")))
    loaded: list[Path] = []

    def noted(source: Any) -> Any:
        loaded.append(source.folder)
        return load_component(source)

    monkeypatch.setattr(benches, "load_component", noted)
    # Room for one model and its work, not for two.
    renderer = make_renderer(SimulatedCard(8_000_000))

    results = [render(renderer, one, Mode.RESIDENT) for one in (spec, other, spec)]

    assert [result.steps_down for result in results] == [(), (), ()]
    assert len(loaded) == 6
    assert same(results[2].pictures, reference)


def test_another_models_weights_make_room_before_a_step_is_taken(
    make_renderer: Make,
    render: Render,
    spec: GroupSpec,
    tmp_path: Path,
    reference: dict[int, Picture],
) -> None:
    import shutil

    other = msgspec.structs.replace(spec, model=str(shutil.copytree(spec.model, tmp_path / "b")))
    peak = render(make_renderer(SimulatedCard(GIB)), spec, Mode.RESIDENT).facts[-1].peak_bytes
    # Room for one model and what it computes, with nothing of the other beside it.
    renderer = make_renderer(SimulatedCard(peak + 1000))
    render(renderer, other, Mode.RESIDENT)

    result = render(renderer, spec, Mode.RESIDENT)

    assert result.ran_out == []
    assert result.steps_down == ()
    assert same(result.pictures, reference)


def test_components_leave_host_memory_by_when_they_were_used(
    make_renderer: Make, render: Render, spec: GroupSpec, tmp_path: Path
) -> None:
    import shutil

    other = msgspec.structs.replace(spec, model=str(shutil.copytree(spec.model, tmp_path / "b")))
    renderer = make_renderer(open_device("cpu"), host_limit=1)

    render(renderer, spec)
    render(renderer, other)

    kept = {part.key[0].folder.parent.name for part in renderer.pool._parts.values()}  # type: ignore[index]
    assert kept == {"b"}
    assert renderer.loaded_model == other.model


def test_weights_replaced_between_tasks_are_loaded_anew(
    make_renderer: Make, render: Render, spec: GroupSpec, tmp_path: Path
) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    spec = msgspec.structs.replace(spec, model=str(shutil.copytree(spec.model, tmp_path / "own")))
    renderer = make_renderer(open_device("cpu"))
    before = render(renderer, spec)

    (file,) = (tmp_path / "own" / "unet").glob("*.safetensors")
    weights = load_file(file)
    save_file({name: value * 0.5 for name, value in weights.items()}, file, {"format": "pt"})
    after = render(renderer, spec)
    fresh = render(make_renderer(open_device("cpu")), spec)

    assert same(after.pictures, fresh.pictures)
    assert not same(after.pictures, before.pictures)
    assert after.facts[-1].weights == fresh.facts[-1].weights != before.facts[-1].weights


def test_configs_replaced_between_tasks_are_read_anew(
    make_renderer: Make, render: Render, spec: GroupSpec, tmp_path: Path
) -> None:
    import json
    import shutil

    spec = msgspec.structs.replace(spec, model=str(shutil.copytree(spec.model, tmp_path / "own")))
    renderer = make_renderer(open_device("cpu"))
    before = render(renderer, spec)

    pictures = [before.pictures]
    for place, change in (
        ("scheduler/scheduler_config.json", {"beta_end": 0.05}),
        ("vae/config.json", {"scaling_factor": 0.5}),
    ):
        file = tmp_path / "own" / place
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
        pictures.append(render(renderer, spec).pictures)

    assert same(render(make_renderer(open_device("cpu")), spec).pictures, pictures[2])
    assert not same(pictures[0], pictures[1])
    assert not same(pictures[1], pictures[2])


def test_facts_tell_what_was_done(make_renderer: Make, render: Render, spec: GroupSpec) -> None:
    facts = render(make_renderer(SimulatedCard(GIB)), spec, Mode.LEAN).facts[-1]

    assert set(facts.phase_seconds) == {"load", "encode", "condition", "denoise", "decode"} - {
        "condition"
    }
    assert all(seconds > 0 for seconds in facts.phase_seconds.values())
    rendering = sum(s for phase, s in facts.phase_seconds.items() if phase != "load")
    assert facts.image_seconds == pytest.approx(rendering / 8)
    assert facts.batch == spec.batch
    assert {"torch", "diffusers", "transformers"} <= set(facts.versions)
    assert not facts.plain
