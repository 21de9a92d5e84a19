"""What kind of task a row is, at what size, and what does not go together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.manifest.grouping import GroupTable
from scheduler.manifest.inputs import NONE, Inputs, Seen
from scheduler.manifest.limits import Limits
from scheduler.manifest.problems import FieldError
from storage.contract.errors import ModelError
from storage.contract.families.registry import FAMILIES
from storage.contract.items import (
    DEPTH_TO_IMAGE,
    IMAGE_TO_IMAGE,
    INPAINT,
    KINDS,
    TEXT_TO_IMAGE,
    UPSCALE,
    ControlNet,
    GroupSpec,
    IpAdapter,
    Lora,
    Upscaler,
)
from storage.contract.models import ModelCard
from storage.testing.factories import make_card

PIPELINES = {
    "sd": "StableDiffusionPipeline",
    "inpainting": "StableDiffusionInpaintPipeline",
    "depth": "StableDiffusionDepth2ImgPipeline",
    "x4": "StableDiffusionUpscalePipeline",
    "xl": "StableDiffusionXLPipeline",
    "refiner": "StableDiffusionXLImg2ImgPipeline",
    "plain": "SomeNewPipeline",
}

CAT = Seen("inputs/cat.png", 515, 389)
SQUARE = Seen("inputs/square.png", 64, 64)
IMAGE = Inputs(image=CAT)
MASKED = Inputs(image=CAT, mask_image=CAT)


def card_of(model: str) -> ModelCard:
    if model not in PIPELINES:
        raise ModelError(f"no model {model!r}", hint="name another")
    return make_card(
        model=model, pipeline=PIPELINES[model], revision="r" * 40, scheduler="DDIMScheduler"
    )


def settle(name: str, revision: str | None) -> tuple[str, str | None]:
    if name == "missing":
        raise ModelError("missing: there is no such file")
    return f"/abs/{name}", None if revision is None else revision * 40


def spec_of(
    settings: dict[str, Any], inputs: Inputs = NONE, *, limits: Limits | None = None
) -> GroupSpec:
    table = GroupTable(
        lambda model, _revision: card_of(model),
        default_model="sd",
        dtype="auto",
        limits=limits or Limits(),
        settle=settle,
    )
    return table.groups[table.group_of(settings, inputs)].spec


def problem(settings: dict[str, Any], inputs: Inputs = NONE, **more: Any) -> str:
    with pytest.raises(FieldError) as caught:
        spec_of(settings, inputs, **more)
    return f"{caught.value.field}: {caught.value.message}"


@pytest.mark.parametrize(
    ("model", "inputs", "kind"),
    [
        ("sd", NONE, TEXT_TO_IMAGE),
        ("sd", IMAGE, IMAGE_TO_IMAGE),
        ("sd", MASKED, INPAINT),
        ("inpainting", MASKED, INPAINT),
        ("depth", IMAGE, DEPTH_TO_IMAGE),
        ("x4", IMAGE, UPSCALE),
        ("xl", IMAGE, IMAGE_TO_IMAGE),
        ("refiner", IMAGE, IMAGE_TO_IMAGE),
        ("refiner", MASKED, INPAINT),
        ("plain", NONE, TEXT_TO_IMAGE),
    ],
)
def test_the_kind_follows_from_pictures_and_model(model: str, inputs: Inputs, kind: str) -> None:
    assert spec_of({"model": model}, inputs).kind == kind
    assert spec_of({"model": model, "kind": kind}, inputs).kind == kind


@pytest.mark.parametrize(
    ("settings", "inputs", "said"),
    [
        ({"strength": 0.5}, NONE, "strength: is given without an image; remove it or name an"),
        ({}, Inputs(mask_image=CAT), "mask_image: is given without an image"),
        ({"kind": IMAGE_TO_IMAGE}, NONE, "image: is missing: image-to-image starts from a"),
        ({"kind": INPAINT}, IMAGE, "mask_image: is missing: inpaint paints inside a mask"),
        ({"kind": TEXT_TO_IMAGE}, IMAGE, "image: is not used by text-to-image; remove it or"),
        ({"kind": IMAGE_TO_IMAGE}, MASKED, "mask_image: is not used by image-to-image; remove"),
        ({"model": "inpainting"}, IMAGE, "mask_image: is missing: inpainting is made for inpaint"),
        ({"model": "inpainting"}, NONE, "image: is missing: inpainting is made for inpaint"),
        ({"model": "depth"}, NONE, "image: is missing: depth is made for depth-to-image"),
        ({"model": "x4"}, NONE, "image: is missing: x4 is made for upscale"),
        ({"model": "refiner"}, NONE, "image: is missing: refiner is made for image-to-image"),
        ({"model": "depth"}, MASKED, "mask_image: asks for inpaint, but depth is made for depth"),
        (
            {"model": "depth", "kind": IMAGE_TO_IMAGE},
            IMAGE,
            "kind: asks for image-to-image, but depth is made for depth-to-image",
        ),
        (
            {"kind": DEPTH_TO_IMAGE},
            IMAGE,
            "kind: asks for depth-to-image, which Stable Diffusion 1.x and 2.x models do not do;"
            " they do: text-to-image, image-to-image, inpaint",
        ),
        ({"model": "plain"}, IMAGE, "image: asks for image-to-image, which other models"),
        ({"model": "plain"}, MASKED, "mask_image: asks for inpaint, which other models"),
        (
            {},
            Inputs(image=CAT, mask_image=SQUARE),
            "mask_image: is 64 x 64, of another shape than the image, 515 x 389",
        ),
        ({"noise_level": 20}, IMAGE, "noise_level: is not used by image-to-image; remove it"),
        (
            {"model": "x4", "strength": 0.5},
            IMAGE,
            "strength: is given and upscale does not use it; remove it or name an image",
        ),
        (
            {"strength": 0.04, "num_inference_steps": 20},
            IMAGE,
            "strength: of 0.04 leaves none of 20 steps to do; take at least 0.05",
        ),
        ({"strength": 0.0}, IMAGE, "strength: of 0 leaves none of 20 steps"),
    ],
    ids=range(21),
)
def test_what_does_not_go_together_is_refused_by_its_field(
    settings: dict[str, Any], inputs: Inputs, said: str
) -> None:
    assert problem(settings, inputs).startswith(said)


def test_strength_and_noise_are_the_families_where_rows_say_nothing() -> None:
    assert spec_of({}).strength is None
    assert spec_of({}, IMAGE).strength == 0.8
    assert spec_of({}, MASKED).strength == 1.0
    assert spec_of({"model": "xl"}, IMAGE).strength == 0.3
    assert spec_of({"strength": 0.5}, MASKED).strength == 0.5
    assert spec_of({"model": "depth"}, IMAGE).strength == 0.8
    assert spec_of({"model": "x4"}, IMAGE).noise_level == 20
    assert spec_of({"model": "x4", "noise_level": 0}, IMAGE).noise_level == 0


@pytest.mark.parametrize(
    ("settings", "inputs", "size"),
    [
        ({}, NONE, (64, 64)),
        ({}, IMAGE, (512, 384)),
        ({}, MASKED, (512, 384)),
        ({"width": 64}, IMAGE, (64, 48)),
        ({"height": 48}, IMAGE, (64, 48)),
        ({"width": 64, "height": 64}, IMAGE, (64, 64)),
        ({"width": 128}, NONE, (128, 64)),
        ({}, Inputs(image=Seen("k", 5, 3)), (8, 8)),
        ({"controlnet": (ControlNet(model="c"),)}, Inputs(control_images=(CAT,)), (512, 384)),
        ({"model": "x4"}, IMAGE, (2048, 1552)),
        ({"model": "x4"}, Inputs(image=SQUARE), (256, 256)),
    ],
    ids=range(11),
)
def test_pictures_decide_the_size_where_rows_do_not(
    settings: dict[str, Any], inputs: Inputs, size: tuple[int, int]
) -> None:
    spec = spec_of(settings, inputs)

    assert (spec.width, spec.height) == size


@given(width=st.integers(1, 8192), height=st.integers(1, 8192), named=st.integers(8, 512))
def test_a_size_taken_from_a_picture_can_always_be_made(
    width: int, height: int, named: int
) -> None:
    inputs = Inputs(image=Seen("k", width, height))

    for settings in ({}, {"width": named // 8 * 8}):
        spec = spec_of(settings, inputs, limits=Limits(max_side=1 << 20))
        assert spec.width % 8 == spec.height % 8 == 0
        assert min(spec.width, spec.height) >= 8


def test_a_picture_too_large_to_be_the_size_needs_one_named() -> None:
    inputs = Inputs(image=Seen("k", 9000, 100))

    assert problem({}, inputs) == (
        "width: would be 9,000 as its picture is, and the row names none; the limit is 8,192"
        " (RENDERMILL_MAX_SIDE)"
    )
    assert spec_of({"width": 512, "height": 512}, inputs).width == 512


def test_the_way_to_size_splits_groups_only_where_there_are_pictures() -> None:
    assert spec_of({"resize_mode": "pad"}) == spec_of({})
    assert spec_of({"resize_mode": "pad"}, IMAGE) != spec_of({}, IMAGE)


# Adapters


NETS = (ControlNet(model="canny"), ControlNet(model="depth", scale=0.5))


@pytest.mark.parametrize(
    ("settings", "inputs", "said"),
    [
        (
            {"controlnet": NETS},
            Inputs(control_images=(CAT,)),
            "control_images: are 1, but there are 2 ControlNets: each needs one",
        ),
        ({"controlnet": NETS[:1]}, NONE, "control_images: are 0, but there are 1 ControlNets"),
        ({}, Inputs(control_images=(CAT,)), "control_images: are given without a controlnet"),
        (
            {"model": "depth", "controlnet": NETS[:1]},
            Inputs(image=CAT, control_images=(CAT,)),
            "controlnet: does not guide depth-to-image of Stable Diffusion 2 depth models",
        ),
        (
            {"ip_adapter": IpAdapter(model="a")},
            NONE,
            "ip_adapter_image: is missing: the IP-Adapter takes after a picture",
        ),
        ({}, Inputs(ip_adapter_image=CAT), "ip_adapter_image: is given without an ip_adapter"),
        (
            {"model": "x4", "ip_adapter": IpAdapter(model="a")},
            Inputs(image=CAT, ip_adapter_image=CAT),
            "ip_adapter: does not go with Stable Diffusion x4 upscaler models",
        ),
        (
            {"model": "refiner", "loras": (Lora(id="a"),)},
            IMAGE,
            "loras: cannot be laid over Stable Diffusion XL refiner models",
        ),
        ({"loras": (Lora(id="missing"),)}, NONE, "loras: missing: there is no such file"),
        (
            {"controlnet": (ControlNet(model="missing"),)},
            Inputs(control_images=(CAT,)),
            "controlnet: missing: there is no such file",
        ),
        ({"upscale": Upscaler(model="gone")}, NONE, "upscale: no model 'gone' (name another)"),
        ({"upscale": Upscaler(model="sd")}, NONE, "upscale: sd does not make pictures larger"),
        (
            {"upscale": Upscaler(model="x4", factor=2)},
            NONE,
            "upscale: x4 makes pictures 4 times as large, not 2",
        ),
        (
            {"quantization": "int8"},
            NONE,
            "quantization: knows no 'int8'; allowed: fp8",
        ),
        ({"cache": "faster"}, NONE, "cache: knows no 'faster'; allowed: first-block, taylorseer"),
        ({"cache": "first-block"}, NONE, "cache: does not go with Stable Diffusion 1.x"),
        ({"model": "plain", "quantization": "fp8"}, NONE, "quantization: does not go with"),
        ({"true_cfg_scale": 2.0}, NONE, "true_cfg_scale: is not used by Stable Diffusion 1.x"),
        ({"max_sequence_length": 1000}, NONE, "max_sequence_length: must be at most 602"),
        (
            {"scheduler": "flow_euler"},
            NONE,
            "scheduler: 'flow_euler' does not suit Stable Diffusion 1.x and 2.x models, which"
            " take any but those of flow matching",
        ),
        ({"model": "plain", "scheduler": "euler"}, NONE, "scheduler: 'euler' does not suit other"),
    ],
    ids=range(21),
)
def test_what_a_family_does_not_take_is_refused_by_its_field(
    settings: dict[str, Any], inputs: Inputs, said: str
) -> None:
    assert problem(settings, inputs).startswith(said)


def test_adapters_are_named_as_workers_understand_them() -> None:
    spec = spec_of(
        {
            "loras": (Lora(id="ink", weight=0.5), Lora(id="line")),
            "controlnet": NETS,
            "ip_adapter": IpAdapter(model="faces"),
            "upscale": Upscaler(model="x4", noise_level=5),
        },
        Inputs(control_images=(CAT, CAT), ip_adapter_image=CAT),
    )

    assert [lora.id for lora in spec.loras] == ["/abs/ink", "/abs/line"]
    assert [net.model for net in spec.controlnets] == ["/abs/canny", "/abs/depth"]
    assert spec.ip_adapter == IpAdapter(model="/abs/faces")
    assert spec.upscaler == Upscaler(model="x4", revision="r" * 40, noise_level=5)


@pytest.mark.parametrize(
    "settings",
    [
        {"loras": (Lora(id="a"),)},
        {"loras": (Lora(id="a", weight=0.5),)},
        {"upscale": Upscaler(model="x4")},
        {"prompt_syntax": "weighted"},
        {"dtype": "float16"},
        {"guidance_scale": 3.0},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_every_setting_makes_another_group_that_survives_sql(settings: dict[str, Any]) -> None:
    spec = spec_of(settings)

    assert spec != spec_of({})
    assert hash(spec) == hash(msgspec.json.decode(msgspec.json.encode(spec), type=GroupSpec))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_family_can_be_asked_for_each_of_its_kinds(family: Any) -> None:
    from storage.contract.families.record import SamplerSet

    own = {
        SamplerSet.FLOW: "FlowMatchEulerDiscreteScheduler",
        SamplerSet.FLOW_AND_DPM: "FlowMatchEulerDiscreteScheduler",
    }
    card = make_card(
        pipeline=family.covers[0], scheduler=own.get(family.samplers, "DDIMScheduler"), width=1024,
        height=1024,
    )  # fmt: skip
    table = GroupTable(lambda *_: card, default_model="m", dtype="auto", limits=Limits())

    for kind in family.pipelines:
        image = None if kind == TEXT_TO_IMAGE else Seen("k", 512, 512)
        inputs = Inputs(image=image, mask_image=image if kind == INPAINT else None)
        number = table.group_of({"kind": kind}, inputs)
        assert table.groups[number].spec.kind == kind


def test_an_adapter_is_settled_once_however_many_rows_name_it() -> None:
    asked: list[str] = []

    def note(name: str, revision: str | None) -> tuple[str, str | None]:
        asked.append(name)
        return name, revision

    table = GroupTable(
        lambda model, _: card_of(model),
        default_model="sd",
        dtype="auto",
        limits=Limits(),
        settle=note,
    )
    for steps in range(1, 9):
        table.group_of({"loras": (Lora(id="ink"),), "num_inference_steps": steps})

    assert asked == ["ink"]


@pytest.mark.parametrize(
    ("settings", "inputs", "found"),
    [
        ({"loras": (Lora(id="ink", revision="a"),)}, NONE, lambda spec: spec.loras[0]),
        (
            {"controlnet": (ControlNet(model="edges", revision="a"),)},
            Inputs(control_images=(Seen("k", 512, 512),)),
            lambda spec: spec.controlnets[0],
        ),
        (
            {"ip_adapter": IpAdapter(model="looks", revision="a")},
            Inputs(ip_adapter_image=Seen("k", 512, 512)),
            lambda spec: spec.ip_adapter,
        ),
    ],
)
def test_a_group_names_the_commit_an_adapters_branch_means_now(
    settings: dict[str, Any], inputs: Inputs, found: Callable[[GroupSpec], Any]
) -> None:
    assert found(spec_of(settings, inputs)).revision == "a" * 40


def test_kinds_are_those_of_the_contract() -> None:
    assert {spec_of({"model": m}, i).kind for m, i in (
        ("sd", NONE), ("sd", IMAGE), ("sd", MASKED), ("depth", IMAGE), ("x4", IMAGE)
    )} == set(KINDS)  # fmt: skip
