from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.manifest.expansion import Expander, Rules
from scheduler.manifest.grouping import GroupTable
from scheduler.manifest.limits import Limits
from scheduler.manifest.problems import Problems
from storage.contract.capability import Mode
from storage.contract.claims import ClaimedTask, Rendering
from storage.contract.items import BatchShape, ControlNet, IpAdapter, Item, Lora, Upscaler
from storage.contract.output import ImageFormat, OutputOptions
from storage.contract.record import item_fields
from storage.contract.reuse import reuse_keys
from storage.embedded.xmp import SourceType
from storage.testing.factories import make_card, make_item, make_spec
from workers.engine.ports import Facts, Picture
from workers.output.metadata import (
    canonical_json,
    key_of,
    parameters_text,
    rendering_of,
    reuse_key_of,
    source_of,
)

FACTS = Facts(dtype="bfloat16", device="card", weights="cafe" * 4, versions={"torch": "2"})
PROMPTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60)


def make_task(**overrides: Any) -> ClaimedTask:
    values: dict[str, Any] = {
        "task_id": 1,
        "lease": 1,
        "job_id": 1,
        "job_name": "job",
        "group_id": 1,
        "group_first_item": 0,
        "first_item": 0,
        "stop_item": 4,
        "spec": make_spec(),
        "mode": Mode.CPU,
        "lease_seconds": 60.0,
    }
    return ClaimedTask(**(values | overrides))


def make_rendering(**overrides: Any) -> Rendering:
    return msgspec.structs.replace(rendering_of(make_task(), FACTS, Picture(item=0)), **overrides)


class _Kept:
    """A sink that keeps items with their group."""

    def __init__(self) -> None:
        self.items: list[tuple[int, Item]] = []

    def add(self, group: int, item: Item) -> None:
        self.items.append((group, item))


class _OneRow:
    """A reader of one typed row."""

    typed = True
    same_columns = False
    digest = ""
    notes: list[str] = []  # noqa: RUF012

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def rows(self) -> Any:
        yield 1, self._values


@given(
    prompt=PROMPTS,
    negative=PROMPTS,
    seed=st.integers(0, 2**32 - 1),
    tags=st.dictionaries(st.sampled_from(["kind", "place"]), PROMPTS, max_size=2),
    clip_skip=st.none() | st.integers(0, 11),
)
def test_an_images_own_record_is_a_row_that_makes_the_same_item(
    prompt: str, negative: str, seed: int, tags: dict[str, str], clip_skip: int | None
) -> None:
    item = make_item(0, prompt=prompt, negative_prompt=negative, seed=seed, tags=tags)
    spec = make_spec(clip_skip=clip_skip, batch=BatchShape())
    record = json.loads(canonical_json(item, 0, make_task(spec=spec), make_rendering(), key="k"))
    problems, sink, limits = Problems("row"), _Kept(), Limits()
    table = GroupTable(lambda *_: make_card(), default_model="other", dtype="auto", limits=limits)

    Expander(Rules(), table, sink, problems).read(_OneRow(record["item"]))

    assert problems.total == 0, problems.first
    ((group, again),) = sink.items
    assert table.groups[group].spec == spec
    assert (again.prompt, again.negative_prompt, again.seed) == (prompt, negative, seed)
    assert again.tags == tags


def _parsed_as_automatic1111_does(text: str) -> tuple[str, str, dict[str, str]]:
    """The reader's own grammar: modules/infotext_utils.py, parse_generation_parameters."""
    import re

    pair = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
    *lines, last = text.strip().split("\n")
    if len(pair.findall(last)) < 3:
        lines.append(last)
        last = ""
    prompt, negative, in_negative = "", "", False
    for raw in lines:
        line = raw.strip()
        if line.startswith("Negative prompt:"):
            in_negative = True
            line = line[16:].strip()
        if in_negative:
            negative += ("" if negative == "" else "\n") + line
        else:
            prompt += ("" if prompt == "" else "\n") + line
    settings = {
        key: json.loads(value) if value[:1] == '"' else value for key, value in pair.findall(last)
    }
    return prompt, negative, settings


def test_other_programs_read_prompt_negative_prompt_and_settings() -> None:
    item = make_item(0, prompt="a fox,\nin the snow: (red:1.3)", negative_prompt="blurry, dull")
    spec = make_spec(model="/models/my, own", scheduler="dpm++_2m_karras", clip_skip=1)

    prompt, negative, settings = _parsed_as_automatic1111_does(
        parameters_text(item, spec, make_rendering())
    )

    assert prompt == item.prompt
    assert negative == item.negative_prompt
    assert settings == {
        "Steps": "2",
        "Sampler": "DPM++ 2M Karras",
        "CFG scale": "4",
        "Seed": "0",
        "Size": "64x64",
        "Model hash": "cafecafeca",
        "Model": "/models/my, own",
        "Clip skip": "2",
        "RNG": "CPU",
        "Version": "rendermill",
    }


@pytest.mark.parametrize(
    "prompt",
    ["a fox\nNegative prompt: a trap", "Negative prompt: all of it", "x\r\n  Negative prompt: y"],
)
def test_a_prompt_that_looks_like_a_negative_one_is_not_split(prompt: str) -> None:
    item = make_item(0, prompt=prompt, negative_prompt="dull")

    text = parameters_text(item, make_spec(), make_rendering())

    lines = text.split("\n")
    assert sum(line.startswith("Negative prompt:") for line in lines) == 1
    assert "Negative prompt: dull" in lines


SPEC_CHANGES: list[dict[str, Any]] = [
    {"width": 72},
    {"height": 72},
    {"num_inference_steps": 3},
    {"guidance_scale": 4.5},
    {"scheduler": "euler"},
    {"clip_skip": 1},
    {"kind": "image-to-image"},
    {"strength": 0.5},
    {"loras": (Lora(id="a"),)},
    {"loras": (Lora(id="a", weight=0.5),)},
    {"controlnets": (ControlNet(model="a"),)},
    {"controlnets": (ControlNet(model="a", end=0.5),)},
    {"ip_adapter": IpAdapter(model="a")},
    {"ip_adapter": IpAdapter(model="a", scale=0.5)},
    {"upscaler": Upscaler(model="a")},
    {"upscaler": Upscaler(model="a", noise_level=5)},
    {"noise_level": 5},
    {"true_cfg_scale": 2.0},
    {"max_sequence_length": 128},
    {"prompt_syntax": "weighted"},
    {"quantization": "int8"},
    {"cache": "faster"},
    {"batch": BatchShape(encode=8, denoise=4, decode=1)},
]


@pytest.mark.parametrize("changes", SPEC_CHANGES, ids=lambda c: next(iter(c)))
def test_the_render_key_follows_every_setting_of_the_group(changes: dict[str, Any]) -> None:
    item, rendering = make_item(0), make_rendering()

    changed = key_of(item, msgspec.structs.replace(make_spec(), **changes), rendering)

    assert changed != key_of(item, make_spec(), rendering)


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "x"},
        {"negative_prompt": "x"},
        {"seed": 9},
        {"image": "inputs/a.png"},
        {"mask_image": "inputs/a.png"},
        {"control_images": ("inputs/a.png",)},
        {"ip_adapter_image": "inputs/a.png"},
    ],
    ids=lambda c: next(iter(c)),
)
def test_the_render_key_follows_what_is_the_items_own(changes: dict[str, Any]) -> None:
    changed = key_of(make_item(0, **changes), make_spec(), make_rendering())

    assert changed != key_of(make_item(0), make_spec(), make_rendering())


def test_the_render_key_follows_how_a_picture_was_brought_to_size() -> None:
    item = make_item(0, image="inputs/a.png")

    keys = {
        key_of(item, make_spec(kind="image-to-image", resize_mode=mode), make_rendering())
        for mode in ("crop", "pad", "stretch")
    }

    assert len(keys) == 3


def test_the_render_key_of_a_row_without_pictures_is_what_it_ever_was() -> None:
    """What was rendered before there were more fields is found again by its key."""
    known = {"prompt", "negative_prompt", "width", "height", "num_inference_steps"}
    known |= {"model", "guidance_scale", "scheduler", "seed"}

    assert set(item_fields(make_item(0), make_spec())) == known


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": "other"},
        {"dtype": "float32"},
        {"device": "other"},
        {"versions": {"torch": "3"}},
        {"steps_down": ("batch 2",)},
    ],
    ids=lambda c: next(iter(c)),
)
def test_the_render_key_follows_how_it_was_rendered(changes: dict[str, Any]) -> None:
    changed = key_of(make_item(0), make_spec(), make_rendering(**changes))

    assert changed != key_of(make_item(0), make_spec(), make_rendering())


def test_the_render_key_does_not_follow_names_and_tags() -> None:
    same = key_of(make_item(0, tags={"kind": "x"}), make_spec(model="renamed"), make_rendering())

    assert same == key_of(make_item(0), make_spec(), make_rendering())


def test_fields_that_say_nothing_are_left_out_of_the_record() -> None:
    fields = item_fields(make_item(0), make_spec())

    assert "revision" not in fields
    assert "tags" not in fields
    assert fields["negative_prompt"] == ""


def test_the_record_says_how_its_file_was_made_where_that_is_not_usual() -> None:
    usual = json.loads(canonical_json(make_item(0), 0, make_task(), make_rendering(), key="k"))
    task = make_task(output=OutputOptions(format=ImageFormat.JPEG, watermark="ours"))
    other = json.loads(canonical_json(make_item(0), 0, task, make_rendering(), key="k"))

    assert "output" not in usual
    assert other["output"] == {"format": "jpeg", "watermark": "ours"}


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("text-to-image", SourceType.MADE),
        ("image-to-image", SourceType.COMPOSED),
        ("inpaint", SourceType.COMPOSED),
    ],
)
def test_a_picture_made_from_another_says_that_it_is_a_composite(
    kind: str, source: SourceType
) -> None:
    assert source_of(make_spec(kind=kind)) is source


def test_the_strength_of_an_input_picture_is_what_others_call_denoising_strength() -> None:
    text = parameters_text(make_item(0), make_spec(strength=0.75), make_rendering())

    assert "Denoising strength: 0.75" in text


# The reuse key


KNOWN_VERSIONS = {"torch": "2.13.0+cpu", "diffusers": "0.42.1", "transformers": "5.23.0"}
KNOWN = replace(FACTS, versions=KNOWN_VERSIONS)


def test_a_worker_and_a_submit_find_the_same_reuse_key() -> None:
    task = make_task()
    keys = reuse_keys(
        task.spec, task.output, weights=FACTS.weights, versions=KNOWN_VERSIONS | {"torch": "2.13.0"}
    )
    assert keys is not None
    found = reuse_key_of(make_item(3), task, KNOWN, Picture(item=3))
    assert found == keys.of(make_item(3))


@pytest.mark.parametrize(
    "changes",
    [
        {"steps_down": ("batch 4 to 2",)},
        {"batch": BatchShape(denoise=1)},
        {"compiled": True},
        {"plain": True},
        {"versions": {}},
    ],
)
def test_pixels_that_the_row_alone_does_not_decide_have_no_reuse_key(
    changes: dict[str, Any],
) -> None:
    facts = replace(KNOWN, **changes)
    assert reuse_key_of(make_item(), make_task(), facts, Picture(item=0)) is None


def test_a_picture_rendered_again_in_another_dtype_has_no_reuse_key() -> None:
    picture = Picture(item=0, retried_in="float32")
    assert reuse_key_of(make_item(), make_task(), KNOWN, picture) is None


def test_a_lesser_mode_leaves_the_reuse_key_as_it_is() -> None:
    facts = replace(KNOWN, steps_down=("mode resident to phased",))
    picture = Picture(item=0)
    assert reuse_key_of(make_item(), make_task(), facts, picture) == reuse_key_of(
        make_item(), make_task(), KNOWN, picture
    )
