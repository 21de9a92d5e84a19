from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPConfig, CLIPImageProcessor

from storage.contract.capability import Mode
from storage.contract.claims import ClaimedTask
from storage.contract.errors import ModelUnusable, OutputUnusable
from storage.contract.outcomes import Reason
from storage.contract.output import OutputOptions, SafetyRule
from storage.testing.factories import make_spec
from workers.engine.devices import Cpu, SimulatedCard, module_bytes
from workers.engine.ports import Picture
from workers.engine.safety import ACTIVATION_BYTES, Inspector, SafetyChecker, inspection, judge

PICTURES = [
    np.random.default_rng(seed).integers(0, 256, (96, 64, 3), dtype=np.uint8) // (seed + 1)
    for seed in range(6)
]


def make_module() -> Any:
    tower = {
        "hidden_size": 32,
        "intermediate_size": 37,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    config = CLIPConfig(
        vision_config=tower | {"image_size": 32, "patch_size": 8},
        text_config=tower | {"vocab_size": 99, "max_position_embeddings": 16},
        projection_dim=16,
    )
    torch.manual_seed(0)
    module = StableDiffusionSafetyChecker(config).eval()
    torch.nn.init.normal_(module.concept_embeds)
    torch.nn.init.normal_(module.special_care_embeds)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder with a checker of random weights that flags some of `PICTURES`."""
    module = make_module()
    size = {"shortest_edge": 32}
    processor = CLIPImageProcessor(size=size, crop_size={"height": 32, "width": 32})
    inputs = processor(PICTURES, return_tensors="pt").pixel_values
    with torch.no_grad():
        embeds = module.visual_projection(module.vision_model(inputs)[1])
        normal = torch.nn.functional.normalize
        likeness = normal(embeds) @ normal(module.concept_embeds).T
        special = normal(embeds) @ normal(module.special_care_embeds).T
    # Thresholds between the pictures' own values: of each concept, half of them lie above.
    module.concept_embeds_weights.data[:] = likeness.max() + 1
    module.concept_embeds_weights.data[3] = likeness[:, 3].median() + 1e-4
    module.special_care_embeds_weights.data[:] = special.median(dim=0).values + 1e-4
    home = tmp_path_factory.mktemp("model")
    module.save_pretrained(home / "safety_checker")
    processor.save_pretrained(home / "feature_extractor")
    return home


def checker_at(folder: Path, device: Any = None) -> SafetyChecker:
    return SafetyChecker.load(
        folder / "safety_checker", folder / "feature_extractor", device or Cpu()
    )


def test_what_is_flagged_is_what_diffusers_own_call_flags(folder: Path) -> None:
    module = StableDiffusionSafetyChecker.from_pretrained(folder / "safety_checker")
    processor = CLIPImageProcessor.from_pretrained(folder / "feature_extractor")
    inputs = processor(PICTURES, return_tensors="pt").pixel_values
    _, expected = module(clip_input=inputs, images=np.zeros((len(PICTURES), 4, 4, 3)))

    found = checker_at(folder).check(PICTURES)

    assert [one.flagged for one in found] == expected
    assert 0 < sum(expected) < len(PICTURES)


def test_scores_say_which_concept_and_by_whom(folder: Path) -> None:
    found = checker_at(folder).check(PICTURES)

    flagged = [one for one in found if one.flagged]
    assert all(list(one.concepts) == [3] for one in flagged)
    assert all(one.highest > 0 for one in flagged)
    assert all(one.highest <= 0 for one in found if not one.flagged)
    assert len({one.checker for one in found}) == 1
    assert len(found[0].checker) == 16


def test_a_pictures_answer_does_not_depend_on_its_neighbours(folder: Path) -> None:
    checker = checker_at(folder)

    together = checker.check(PICTURES * 3)

    assert [one.flagged for one in together] == [
        checker.check([picture])[0].flagged for picture in PICTURES * 3
    ]


def test_pixels_are_never_touched(folder: Path) -> None:
    before = [picture.copy() for picture in PICTURES]

    checker_at(folder).check(PICTURES)

    assert all(np.array_equal(a, b) for a, b in zip(before, PICTURES, strict=True))


@pytest.mark.parametrize("spare", [-1, 1 << 20])
def test_the_device_is_used_only_where_there_is_room(folder: Path, spare: int) -> None:
    weights = module_bytes(make_module())
    card = SimulatedCard(weights + ACTIVATION_BYTES + spare)
    expected = checker_at(folder).check(PICTURES)

    found = checker_at(folder, card).check(PICTURES)

    assert found == expected
    assert (card.peak_bytes() >= weights) is (spare > 0)
    assert card.free_bytes() == card.room_bytes()


def test_where_the_device_runs_out_after_all_the_cpu_answers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = SimulatedCard(1 << 40)
    checker = checker_at(folder, card)
    expected = checker_at(folder).check(PICTURES)

    def full(_module: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(card, "place", full)

    assert checker.check(PICTURES) == expected


@given(
    likeness=st.lists(st.floats(-1, 1), min_size=17, max_size=17),
    special=st.lists(st.floats(-1, 1), min_size=3, max_size=3),
)
def test_special_care_lowers_the_thresholds_by_a_hundredth(
    likeness: list[float], special: list[float]
) -> None:
    found = judge(likeness, special, [0.5] * 17, [0.5] * 3)

    lowered = 0.01 if found.special_care else 0.0
    assert found.highest == max(round(one - 0.5 + lowered, 3) for one in likeness)
    assert found.flagged is (found.highest > 0)
    assert set(found.concepts) == {
        number for number, one in enumerate(likeness) if round(one - 0.5 + lowered, 3) > 0
    }


def make_task(model: Path | str, safety: SafetyRule, checker: str | None = None) -> ClaimedTask:
    return ClaimedTask(
        task_id=1,
        lease=1,
        job_id=1,
        job_name="job",
        group_id=1,
        group_first_item=0,
        first_item=0,
        stop_item=6,
        spec=make_spec(model=str(model)),
        mode=Mode.CPU,
        lease_seconds=60.0,
        output=OutputOptions(safety=safety, safety_model=checker),
    )


def pictures() -> list[Picture]:
    whole = [Picture(item=number, pixels=one) for number, one in enumerate(PICTURES)]
    return [*whole, Picture(item=6, fault=Reason.NAN, detail="not finite")]


def inspected(task: ClaimedTask) -> list[Picture]:
    return list(inspection(Inspector(Cpu), task)(pictures()))


@pytest.mark.parametrize("rule", [SafetyRule.MARK, SafetyRule.BLUR])
def test_flagged_pictures_are_marked_and_otherwise_left_alone(
    folder: Path, rule: SafetyRule
) -> None:
    found = inspected(make_task(folder, rule))

    flags = [one.safety and one.safety.flagged for one in found]
    assert {True, False} == set(flags[:6])
    assert flags[6] is None
    for before, after in zip(pictures(), found, strict=True):
        assert after.pixels is before.pixels
        assert after.fault == before.fault


def test_dropped_pictures_end_as_failures_of_their_own_kind(folder: Path) -> None:
    found = inspected(make_task(folder, SafetyRule.DROP))

    for one in found[:6]:
        assert one.safety is not None
        if one.safety.flagged:
            assert (one.pixels, one.fault) == (None, Reason.UNSAFE)
            assert "concepts 3 (+0." in str(one.detail)
        else:
            assert (one.pixels is not None, one.fault) == (True, None)
    assert found[6].fault is Reason.NAN


def test_a_job_without_a_checker_loads_none() -> None:
    def no_device() -> Cpu:
        raise AssertionError

    task = make_task("starter", SafetyRule.OFF)
    some = pictures()

    assert inspection(Inspector(no_device), task)(some) is some
    assert inspection(None, task)(some) is some


def test_the_checker_is_kept_from_task_to_task(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[Path] = []
    load: Callable[..., SafetyChecker] = SafetyChecker.load

    def counted(checker: Path, processor: Path, device: Any) -> SafetyChecker:
        loads.append(checker)
        return load(checker, processor, device)

    monkeypatch.setattr(SafetyChecker, "load", counted)
    inspector = Inspector(Cpu)
    for _ in range(3):
        inspection(inspector, make_task(folder, SafetyRule.MARK))

    assert loads == [folder / "safety_checker"]


def test_another_models_checker_can_be_named(folder: Path) -> None:
    task = make_task("starter", SafetyRule.MARK, checker=str(folder / "safety_checker"))
    (folder / "safety_checker" / "preprocessor_config.json").write_bytes(
        (folder / "feature_extractor" / "preprocessor_config.json").read_bytes()
    )

    found = list(inspection(Inspector(Cpu), task)(pictures()))

    assert [one.safety for one in found] == [
        one.safety for one in inspected(make_task(folder, SafetyRule.MARK))
    ]


def test_a_model_without_a_checker_is_said_before_anything_is_rendered() -> None:
    with pytest.raises(OutputUnusable) as caught:
        inspection(Inspector(Cpu), make_task("starter", SafetyRule.MARK))
    assert "--safety-model" in str(caught.value.hint)


def test_a_worker_that_cannot_check_says_so() -> None:
    with pytest.raises(OutputUnusable, match="cannot check"):
        inspection(None, make_task("starter", SafetyRule.MARK))


def test_weights_of_something_else_are_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    checker = tmp_path / "safety_checker"
    checker.mkdir()
    (checker / "config.json").write_bytes((folder / "safety_checker/config.json").read_bytes())
    save_file({"else": torch.zeros(1)}, checker / "model.safetensors")

    with pytest.raises(ModelUnusable, match="do not belong"):
        inspection(Inspector(Cpu), make_task("starter", SafetyRule.MARK, checker=str(tmp_path)))


def test_pickled_weights_are_no_weights(folder: Path, tmp_path: Path) -> None:
    checker = tmp_path / "safety_checker"
    checker.mkdir()
    (checker / "config.json").write_bytes((folder / "safety_checker/config.json").read_bytes())
    (checker / "pytorch_model.bin").write_bytes(b"\x80\x04.")

    with pytest.raises(OutputUnusable, match="no safety checker with safetensors"):
        inspection(Inspector(Cpu), make_task("starter", SafetyRule.MARK, checker=str(tmp_path)))


def test_what_was_said_travels_as_json(folder: Path) -> None:
    for one in checker_at(folder).check(PICTURES):
        assert msgspec.json.decode(msgspec.json.encode(one), type=type(one)) == one
