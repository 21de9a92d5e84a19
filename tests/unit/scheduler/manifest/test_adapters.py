"""Fields that are more than one value."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.manifest.fields import FIELDS, parse_field
from scheduler.manifest.limits import Limits
from scheduler.manifest.problems import FieldError
from scheduler.manifest.values import cell
from storage.contract.items import ControlNet, IpAdapter, Lora, Upscaler

LIMITS = Limits()
X4 = "stabilityai/stable-diffusion-x4-upscaler"


def parse(name: str, value: object, limits: Limits = LIMITS) -> Any:
    return parse_field(FIELDS[name], value, limits)


def problem(name: str, value: object, limits: Limits = LIMITS) -> str:
    with pytest.raises(FieldError) as caught:
        parse(name, value, limits)
    assert caught.value.field == name
    return caught.value.message


@pytest.mark.parametrize(
    ("value", "loras"),
    [
        ([{"id": "a/b"}], [Lora(id="a/b")]),
        ({"id": "a/b", "weight": 0.5}, [Lora(id="a/b", weight=0.5)]),
        (
            [{"id": "a/b", "weight": -1, "revision": "r", "weight_name": "w.safetensors"}],
            [Lora(id="a/b", weight=-1.0, revision="r", weight_name="w.safetensors")],
        ),
        ([{"id": "a/b", "revision": None}, "c:0.5"], [Lora(id="a/b"), Lora(id="c", weight=0.5)]),
        ("a/b:0.8, c/d:0.5", [Lora(id="a/b", weight=0.8), Lora(id="c/d", weight=0.5)]),
        (cell("a/b:0.8, c/d"), [Lora(id="a/b", weight=0.8), Lora(id="c/d")]),
        (cell(" a/b : -2 ,"), [Lora(id="a/b", weight=-2.0)]),
        (cell('[{"id": "a/b", "weight": 0.5}]'), [Lora(id="a/b", weight=0.5)]),
        ("c:/loras/x.safetensors", [Lora(id="c:/loras/x.safetensors")]),
        (["a:1", {"id": "b"}], [Lora(id="a", weight=1.0), Lora(id="b")]),
    ],
    ids=range(10),
)
def test_loras_are_lists_objects_or_text(value: object, loras: list[Lora]) -> None:
    assert parse("loras", value) == tuple(loras)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (7, "must be text, an object or a list of them, not 7"),
        ([], "is empty"),
        (cell(","), "is empty"),
        ([7], "must be text or an object, not 7"),
        ([{}], "needs 'id' in {}"),
        ([{"weight": 1}], "needs 'id' in {'weight': 1}"),
        ([{"id": "a", "wieght": 1}], "has no part 'wieght'; allowed: id, weight, revision,"),
        ([{"id": "a", "weight": "1"}], "weight must be a number, not '1'"),
        ([{"id": "a", "weight": 101}], "weight must be -100 to 100, not 101"),
        ([{"id": ""}], "id is empty"),
        ([{"id": ["a"]}], "id must be text, not ['a']"),
        (["a:0.5", "a:0.8"], "names a LoRA twice"),
        (cell("a:nan"), "must be finite, not nan"),
        (cell('[{"id": '), "starts with a bracket and cannot be read as JSON"),
        (cell("[" * 100_000), "starts with a bracket and cannot be read as JSON"),
    ],
    ids=range(15),
)
def test_wrong_loras_are_refused_with_what_is_allowed(value: object, said: str) -> None:
    assert problem("loras", value).startswith(said)


def test_their_number_is_limited_by_a_setting() -> None:
    many = [f"a{number}" for number in range(4)]

    assert len(parse("loras", many, Limits(max_adapters=4))) == 4
    said = problem("loras", many, Limits(max_adapters=3))
    assert said == "names 4 LoRAs; the limit is 3 (RENDERMILL_MAX_ADAPTERS)"


@pytest.mark.parametrize(
    ("value", "nets"),
    [
        ("a/b", [ControlNet(model="a/b")]),
        (cell("a/b:0.5,c/d"), [ControlNet(model="a/b", scale=0.5), ControlNet(model="c/d")]),
        (
            {"model": "a/b", "revision": "r", "scale": 2, "start": 0.1, "end": 0.9},
            [ControlNet(model="a/b", revision="r", scale=2.0, start=0.1, end=0.9)],
        ),
        (["a", {"model": "b"}], [ControlNet(model="a"), ControlNet(model="b")]),
        (["a", "a"], [ControlNet(model="a"), ControlNet(model="a")]),
    ],
    ids=range(5),
)
def test_controlnets_are_ids_objects_or_lists(value: object, nets: list[ControlNet]) -> None:
    assert parse("controlnet", value) == tuple(nets)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"model": "a", "start": 0.5, "end": 0.5}, "starts at 0.5 and must end later, not at 0.5"),
        ({"model": "a", "end": 1.5}, "end must be 0 to 1, not 1.5"),
        ({"scale": 1}, "needs 'model'"),
        (4, "must be text, an object or a list of them"),
    ],
    ids=range(4),
)
def test_wrong_controlnets_are_refused(value: object, said: str) -> None:
    assert problem("controlnet", value).startswith(said)


@pytest.mark.parametrize(
    ("value", "adapter"),
    [
        ("h94/IP-Adapter", IpAdapter(model="h94/IP-Adapter")),
        (cell("h94/IP-Adapter:0.6"), IpAdapter(model="h94/IP-Adapter", scale=0.6)),
        (
            {"model": "m", "subfolder": "sdxl_models", "weight_name": "x.safetensors", "scale": 1},
            IpAdapter(model="m", subfolder="sdxl_models", weight_name="x.safetensors", scale=1.0),
        ),
    ],
    ids=range(3),
)
def test_an_ip_adapter_is_an_id_or_an_object(value: object, adapter: IpAdapter) -> None:
    assert parse("ip_adapter", value) == adapter


@pytest.mark.parametrize(
    ("value", "upscaler"),
    [
        (4, Upscaler(model=X4)),
        (cell("4"), Upscaler(model=X4)),
        (2, Upscaler(model=X4, factor=2)),
        ({}, Upscaler(model=X4)),
        (cell('{"factor": 4, "noise_level": 50}'), Upscaler(model=X4, noise_level=50)),
        (
            {"model": "a/b", "num_inference_steps": 20, "guidance_scale": 0, "revision": "r"},
            Upscaler(model="a/b", num_inference_steps=20, guidance_scale=0.0, revision="r"),
        ),
    ],
    ids=range(6),
)
def test_upscaling_is_a_factor_or_an_object(value: object, upscaler: Upscaler) -> None:
    assert parse("upscale", value) == upscaler


@pytest.mark.parametrize("value", [0, 1, 9, True, "four", [4], {"factor": 1}, {"model": ""}, 2.5])
def test_no_other_upscaling_is_understood(value: object) -> None:
    assert problem("upscale", value)


@pytest.mark.parametrize(
    ("value", "pictures"),
    [
        ("a, b.png", ("a, b.png",)),
        (cell("a.png, b.png"), ("a.png", "b.png")),
        (cell('["a, b.png"]'), ("a, b.png",)),
        (["a.png", "https://host/b.png"], ("a.png", "https://host/b.png")),
    ],
    ids=range(4),
)
def test_control_images_are_one_or_several(value: object, pictures: tuple[str, ...]) -> None:
    assert parse("control_images", value) == pictures


@pytest.mark.parametrize("value", [[], "", " ", 7, [""], [7], {"a": 1}, cell("a,,b")])
def test_no_other_control_images_are_understood(value: object) -> None:
    assert problem("control_images", value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(
    name=st.sampled_from(["loras", "controlnet", "ip_adapter", "upscale", "control_images"]),
    value=json_values,
)
def test_whatever_json_says_becomes_a_value_that_can_be_a_key_or_a_problem(
    name: str, value: Any
) -> None:
    for said in (value, cell(json.dumps(value)), cell(str(value))):
        with suppress(FieldError):  # and no other error
            hash(parse(name, said))
