"""The records of the transformer families."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from storage.contract.families.record import Family, Guidance
from storage.contract.families.registry import FAMILIES
from storage.contract.items import IMAGE_TO_IMAGE, INPAINT
from storage.contract.samplers import find_sampler

TRANSFORMERS = [family for family in FAMILIES if family.denoiser == "transformer"]


def named(family: Family) -> str:
    return family.name


def pipeline(name: str) -> Any:
    import diffusers

    return getattr(diffusers, name)


def default(name: str, parameter: str) -> Any:
    return inspect.signature(pipeline(name).__call__).parameters[parameter].default


@pytest.mark.parametrize("family", TRANSFORMERS, ids=named)
def test_its_defaults_are_those_of_diffusers(family: Family) -> None:
    scale = "true_cfg_scale" if family.guidance is Guidance.TRUE else "guidance_scale"
    assert default(family.pipeline, "num_inference_steps") == family.num_inference_steps
    assert default(family.pipeline, scale) == family.guidance_scale
    strengths = {IMAGE_TO_IMAGE: family.strength, INPAINT: family.inpaint_strength}
    for kind, strength in strengths.items():
        if kind in family.pipelines:
            assert default(family.pipelines[kind], "strength") == strength


@pytest.mark.parametrize("family", TRANSFORMERS, ids=named)
def test_it_takes_loras_where_all_its_pipelines_do(family: Family) -> None:
    kinds = [*family.pipelines.values(), *family.controlnet_pipelines.values()]
    takes = {hasattr(pipeline(kind), "load_lora_weights") for kind in kinds}
    assert takes == {family.loras}


@pytest.mark.parametrize("family", TRANSFORMERS, ids=named)
def test_its_components_are_what_its_pipelines_are_made_of(family: Family) -> None:
    tokenizers = {tokenizer for tokenizer, _ in family.text_encoders}
    for name in family.pipelines.values():
        parameters = set(inspect.signature(pipeline(name).__init__).parameters)
        assert {*family.components, *tokenizers} <= parameters


@pytest.mark.parametrize("family", TRANSFORMERS, ids=named)
def test_sizes_are_binned_where_diffusers_bins_them(family: Family) -> None:
    call = inspect.signature(pipeline(family.pipeline).__call__)
    assert family.binned == ("use_resolution_binning" in call.parameters)


@pytest.mark.parametrize(
    ("spelling", "kind"),
    [
        ("flow_euler", "FlowMatchEulerDiscrete"),
        ("FlowMatchEulerDiscreteScheduler", "flow"),
        ("scm", "SCM"),
    ],
)
def test_the_samplers_these_models_come_with_are_known(spelling: str, kind: str) -> None:
    assert kind.casefold() in find_sampler(spelling).scheduler_class.casefold()
