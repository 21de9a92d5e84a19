"""The reuse key follows everything that decides an image, and no name."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.contract.items import (
    BatchShape,
    ControlNet,
    GroupSpec,
    IpAdapter,
    Item,
    Lora,
    Upscaler,
)
from storage.contract.output import Embed, ImageFormat, OutputOptions, SafetyRule
from storage.contract.reuse import LIBRARIES, _group_facts, plain_version, reuse_keys
from storage.testing.factories import make_item, make_spec

VERSIONS = {"torch": "2.13.0", "diffusers": "0.42.1", "transformers": "5.23.0"}
PICTURES: dict[str, Any] = {
    "loras": (Lora(id="a", weight=0.5),),
    "controlnets": (ControlNet(model="canny", scale=0.5),),
    "ip_adapter": IpAdapter(model="adapter", scale=0.5),
}

GROUP_CHANGES: dict[str, Any] = {
    "kind": "image-to-image",
    "width": 72,
    "height": 72,
    "num_inference_steps": 3,
    "guidance_scale": 4.5,
    "scheduler": "euler",
    "clip_skip": 1,
    "dtype": "float32",
    "batch": BatchShape(encode=8, denoise=5, decode=4),
    "strength": 0.5,
    "loras": (Lora(id="a", weight=0.6),),
    "controlnets": (ControlNet(model="canny", scale=0.6),),
    "ip_adapter": IpAdapter(model="adapter", scale=0.6),
    "noise_level": 3,
    "true_cfg_scale": 2.0,
    "max_sequence_length": 128,
    "prompt_syntax": "weighted",
    "resize_mode": "pad",
    "quantization": "int8",
    "cache": "first-block",
    "compile": "always",
}
ITEM_CHANGES: dict[str, Any] = {
    "prompt": "another",
    "negative_prompt": "another",
    "seed": 999,
    "image": "inputs/a.png",
    "mask_image": "inputs/b.png",
    "control_images": ("inputs/c.png",),
    "ip_adapter_image": "inputs/d.png",
}
OUTPUT_CHANGES: dict[str, Any] = {
    "format": ImageFormat.JPEG,
    "quality": 33,
    "metadata": Embed.NONE,
    "thumbnails": False,
    "safety": SafetyRule.BLUR,
    "safety_model": "checker",
    "watermark": "mine",
    "c2pa": True,
}
NAMES_OF_GROUPS = {"model", "revision"}
NAMES_OF_ITEMS = {"row", "line", "image_no", "tags", "template", "negative_template"}


def key(
    item: Item | None = None,
    spec: GroupSpec | None = None,
    output: OutputOptions | None = None,
    weights: str = "cafe",
    versions: dict[str, str] | None = None,
) -> str:
    keys = reuse_keys(
        spec or make_spec(**PICTURES),
        output or OutputOptions(),
        weights=weights,
        versions=versions or VERSIONS,
    )
    assert keys is not None
    return keys.of(item or make_item())


def test_every_field_is_either_tried_here_or_a_name() -> None:
    assert {*GROUP_CHANGES, *NAMES_OF_GROUPS, "upscaler"} == {*GroupSpec.__struct_fields__}
    assert {*ITEM_CHANGES, *NAMES_OF_ITEMS} == {*Item.__struct_fields__}
    assert {*OUTPUT_CHANGES, "png_level"} == {*OutputOptions.__struct_fields__}


@pytest.mark.parametrize("name", GROUP_CHANGES)
def test_every_field_of_the_group_changes_the_key(name: str) -> None:
    changed = make_spec(**(PICTURES | {name: GROUP_CHANGES[name]}))
    assert key(spec=changed) != key()


@pytest.mark.parametrize("name", ITEM_CHANGES)
def test_every_field_of_the_item_changes_the_key(name: str) -> None:
    assert key(make_item(**{name: ITEM_CHANGES[name]})) != key()


@pytest.mark.parametrize("name", OUTPUT_CHANGES)
def test_every_option_of_the_file_changes_the_key(name: str) -> None:
    before = OutputOptions(format=ImageFormat.WEBP)
    after = msgspec.structs.replace(before, **{name: OUTPUT_CHANGES[name]})
    assert key(output=after) != key(output=before)


@pytest.mark.parametrize("part", ["encode", "denoise", "decode"])
def test_every_number_of_the_batchs_shape_changes_the_key(part: str) -> None:
    spec = make_spec()
    shape = msgspec.structs.replace(spec.batch, **{part: 7})
    assert key(spec=msgspec.structs.replace(spec, batch=shape)) != key(spec=spec)


def test_the_weights_change_the_key() -> None:
    assert key(weights="beef") != key()


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_librarys_version_changes_the_key(library: str) -> None:
    assert key(versions=VERSIONS | {library: "9"}) != key()


def test_what_a_library_was_built_for_does_not_change_the_key() -> None:
    assert plain_version("2.13.0+cu130") == "2.13.0"
    assert key(versions=VERSIONS | {"torch": "2.13.0+cpu"}) == key()


def test_a_library_that_changes_no_pixel_does_not_change_the_key() -> None:
    assert key(versions=VERSIONS | {"pillow": "12"}) == key()


def test_names_do_not_change_the_key() -> None:
    renamed = make_spec(
        model="elsewhere",
        revision="f" * 40,
        loras=(Lora(id="b", weight=0.5, revision="1", weight_name="b.safetensors"),),
        controlnets=(ControlNet(model="b", revision="1", scale=0.5),),
        ip_adapter=IpAdapter(model="b", revision="1", subfolder="c", scale=0.5),
    )
    assert key(spec=renamed) == key()


def test_where_an_item_came_from_does_not_change_the_key() -> None:
    moved = make_item(row=8, line=9, image_no=3, tags={"a": "b"}, template="{a|b}")
    assert key(moved) == key()


def test_how_hard_a_png_is_packed_does_not_change_the_key() -> None:
    assert key(output=OutputOptions(png_level=9)) == key()


def test_the_models_own_safety_checker_goes_by_the_models_name() -> None:
    checked = OutputOptions(safety=SafetyRule.MARK)
    other = make_spec(**PICTURES, model="other")
    assert key(spec=other, output=checked) != key(output=checked)


def test_a_number_is_the_same_however_it_was_written() -> None:
    assert key(spec=make_spec(guidance_scale=4)) == key(spec=make_spec(guidance_scale=4.0))


def test_how_pictures_are_brought_to_size_counts_only_where_there_are_any() -> None:
    assert key(spec=make_spec(resize_mode="pad")) == key(spec=make_spec())


@pytest.mark.parametrize(
    ("spec", "weights", "versions"),
    [
        (make_spec(upscaler=Upscaler(model="a")), "cafe", VERSIONS),
        (make_spec(), "", VERSIONS),
        (make_spec(), "cafe", {"torch": "2"}),
    ],
)
def test_what_is_not_wholly_known_has_no_key(
    spec: GroupSpec, weights: str, versions: dict[str, str]
) -> None:
    assert reuse_keys(spec, OutputOptions(), weights=weights, versions=versions) is None


def test_a_field_at_its_default_is_no_part_of_the_key() -> None:
    """So that a field that is new leaves the keys of the images that are there as they were."""
    assert key(spec=make_spec(cache=None)) == key(spec=make_spec())
    assert '"cache"' not in msgspec.json.encode(_group_facts(make_spec())).decode()


@given(
    one=st.tuples(st.text(max_size=20), st.text(max_size=20), st.integers(0, 2**32 - 1)),
    other=st.tuples(st.text(max_size=20), st.text(max_size=20), st.integers(0, 2**32 - 1)),
)
def test_two_items_have_one_key_only_if_they_are_alike(
    one: tuple[str, str, int], other: tuple[str, str, int]
) -> None:
    first, second = (make_item(prompt=p, negative_prompt=n, seed=s) for p, n, s in (one, other))
    assert (key(first) == key(second)) == (one == other)


def test_the_key_never_changes_between_versions() -> None:
    keys = reuse_keys(make_spec(), OutputOptions(), weights="cafe", versions=VERSIONS)
    assert keys is not None
    assert keys.of(make_item()) == "d26ba9c55e1cd3f971114bfd23fbc806"
