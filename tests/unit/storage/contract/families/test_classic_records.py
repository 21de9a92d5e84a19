"""The records of the CLIP and UNet families."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from storage.contract.families.record import Family
from storage.contract.families.registry import FAMILIES, family_of
from storage.contract.items import IMAGE_TO_IMAGE, INPAINT, KINDS

UNETS = [family for family in FAMILIES if family.denoiser == "unet"]


def named(family: Family) -> str:
    return family.name


def default(pipeline: str, parameter: str) -> Any:
    import diffusers

    call = getattr(diffusers, pipeline).__call__
    return inspect.signature(call).parameters[parameter].default


@pytest.mark.parametrize("family", UNETS, ids=named)
def test_its_defaults_are_those_of_diffusers(family: Family) -> None:
    assert default(family.pipeline, "num_inference_steps") == family.num_inference_steps
    assert default(family.pipeline, "guidance_scale") == family.guidance_scale
    strengths = {IMAGE_TO_IMAGE: family.strength, INPAINT: family.inpaint_strength}
    for kind, strength in strengths.items():
        if kind in family.pipelines:
            assert default(family.pipelines[kind], "strength") == strength


@pytest.mark.parametrize("family", FAMILIES, ids=named)
def test_its_kinds_are_known_and_its_controlnets_guide_them(family: Family) -> None:
    assert set(family.pipelines) <= set(KINDS)
    assert set(family.controlnet_pipelines) <= set(family.pipelines)
    assert set(family.extras) <= set(family.pipelines)


def test_no_two_families_cover_the_same_models() -> None:
    covered = [name for family in FAMILIES for name in family.covers]

    assert len(set(covered)) == len(covered)
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


@pytest.mark.parametrize(
    ("pipeline", "name"),
    [
        ("StableDiffusionPipeline", "stable-diffusion"),
        ("StableDiffusionInpaintPipeline", "stable-diffusion-inpainting"),
        ("StableDiffusionXLImg2ImgPipeline", "stable-diffusion-xl-refiner"),
        ("LatentConsistencyModelPipeline", "latent-consistency"),
    ],
)
def test_a_model_is_known_by_the_pipeline_it_names(pipeline: str, name: str) -> None:
    found = family_of(pipeline)

    assert found is not None
    assert found.name == name
