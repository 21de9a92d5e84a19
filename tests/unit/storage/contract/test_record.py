"""An item as a manifest row: read as one, it makes the same item of the same group again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from scheduler.manifest.expansion import Expander, Rules
from scheduler.manifest.grouping import GroupTable
from scheduler.manifest.inputs import Seen
from scheduler.manifest.limits import Limits
from scheduler.manifest.problems import Problems
from scheduler.manifest.readers.base import Row
from storage.contract.families.registry import FAMILIES
from storage.contract.items import (
    BatchShape,
    ControlNet,
    GroupSpec,
    IpAdapter,
    Item,
    Lora,
    Upscaler,
)
from storage.contract.models import ModelCard
from storage.contract.record import item_fields
from storage.testing.factories import make_card, make_item, make_spec

PIPELINES = {
    "sd": "StableDiffusionPipeline",
    "depth": "StableDiffusionDepth2ImgPipeline",
    "x4": "StableDiffusionUpscalePipeline",
    "sd3": "StableDiffusion3Pipeline",
    "flux": "FluxPipeline",
}


class OneRow:
    """A reader of one typed row."""

    typed = True
    same_columns = False
    digest = ""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values
        self.notes: list[str] = []

    def rows(self) -> Iterator[Row]:
        yield 1, self._values


class Stored:
    """Every key is that of a picture of 96 x 80 pixels."""

    def expect(self, reference: str) -> None:
        """Nothing to open."""

    def look(self, reference: str) -> Seen:
        assert reference.startswith("inputs/")
        return Seen(reference, 96, 80)


class Kept(list[tuple[int, Item]]):
    """Keeps items with their groups."""

    def add(self, group: int, item: Item) -> None:
        self.append((group, item))


def describe(model: str, revision: str | None) -> ModelCard:
    flow = model in ("sd3", "flux")
    scheduler = "FlowMatchEulerDiscreteScheduler" if flow else "DDIMScheduler"
    return make_card(model=model, revision=revision, pipeline=PIPELINES[model], scheduler=scheduler)


def again(row: dict[str, Any]) -> tuple[GroupSpec, Item]:
    """What the row makes, after its way through JSON."""
    problems, kept, limits = Problems("row"), Kept(), Limits()
    table = GroupTable(describe, default_model="sd", dtype="auto", limits=limits)
    values = msgspec.json.decode(msgspec.json.encode(row))
    Expander(Rules(), table, kept, problems, pictures=Stored()).read(OneRow(values))
    assert problems.total == 0, problems.first
    ((group, item),) = kept
    return table.groups[group].spec, item


A, B, C, D = (f"inputs/{letter}.png" for letter in "abcd")

CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"clip_skip": 1, "dtype": "float16", "revision": "r" * 40}, {"tags": {"kind": "x"}}),
    ({"kind": "image-to-image", "strength": 0.5}, {"image": A}),
    ({"kind": "image-to-image", "strength": 0.8, "resize_mode": "pad"}, {"image": A}),
    ({"kind": "inpaint", "strength": 1.0}, {"image": A, "mask_image": B}),
    ({"kind": "depth-to-image", "strength": 0.8, "model": "depth"}, {"image": A}),
    ({"kind": "upscale", "noise_level": 20, "model": "x4"}, {"image": A}),
    ({"kind": "upscale", "noise_level": 7, "model": "x4"}, {"image": A}),
    (
        {
            "controlnets": (
                ControlNet(model="a/b"),
                ControlNet(model="c/d", revision="r", scale=0.5, start=0.25, end=0.75),
            ),
            "resize_mode": "stretch",
        },
        {"control_images": (A, B)},
    ),
    (
        {
            "kind": "inpaint",
            "strength": 0.5,
            "controlnets": (ControlNet(model="a/b"),),
            "ip_adapter": IpAdapter(model="e/f", scale=0.5),
            "loras": (Lora(id="a/b"), Lora(id="c/d", weight=-0.5, weight_name="w.safetensors")),
            "upscaler": Upscaler(model="x4", num_inference_steps=10, guidance_scale=0.0),
            "prompt_syntax": "weighted",
        },
        {"image": A, "mask_image": B, "control_images": (C,), "ip_adapter_image": D},
    ),
    ({"model": "sd3", "max_sequence_length": 128, "scheduler": "flow_euler"}, {}),
    ({"model": "flux", "true_cfg_scale": 2.0, "scheduler": "flow_euler"}, {}),
    (
        {
            "model": "flux",
            "quantization": "fp8",
            "cache": "first-block",
            "compile": "always",
            "scheduler": "flow_euler",
        },
        {},
    ),
]


@pytest.mark.parametrize(("of_group", "of_item"), CASES, ids=range(len(CASES)))
def test_an_item_as_a_row_makes_the_same_item_again(
    of_group: dict[str, Any], of_item: dict[str, Any]
) -> None:
    spec = make_spec(**({"model": "sd", "batch": BatchShape()} | of_group))
    item = msgspec.structs.replace(make_item(0, negative_prompt="b", **of_item), line=1)

    found, made = again(item_fields(item, spec))

    assert found == spec
    assert made == item


def test_every_field_of_items_and_groups_is_in_some_case() -> None:
    """A field that is added must be said by the row too, or named here as not its own."""
    elsewhere = {"row", "line", "image_no", "prompt", "negative_prompt", "seed"}
    elsewhere |= {"template", "negative_template"}  # the row says what came of them
    elsewhere |= {"width", "height", "num_inference_steps", "guidance_scale", "batch"}
    said = {name for case in CASES for part in case for name in part}

    fields = {*Item.__struct_fields__, *GroupSpec.__struct_fields__}

    assert fields - elsewhere == said


def test_the_families_of_the_cases_are_known() -> None:
    covered = {name for family in FAMILIES for name in family.covers}

    assert set(PIPELINES.values()) <= covered
