"""Samplers: the names rows may use, held against the diffusers that is installed."""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path

import pytest

from storage.contract.samplers import SAMPLERS, Sampler, UnknownSampler, find_sampler


@cache
def scheduler_settings() -> dict[str, set[str]]:
    """The settings each scheduler class of diffusers takes, read from its source, unimported."""
    spec = importlib.util.find_spec("diffusers")
    if spec is None or spec.origin is None:
        pytest.skip("diffusers is not installed")
    found = {}
    for file in (Path(spec.origin).parent / "schedulers").glob("scheduling_*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef):
                for method in node.body:
                    if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                        arguments = method.args.args + method.args.kwonlyargs
                        found[node.name] = {argument.arg for argument in arguments}
    return found


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=lambda one: one.name)
def test_every_sampler_is_a_diffusers_class_that_takes_its_settings(sampler: Sampler) -> None:
    settings = scheduler_settings()
    assert sampler.scheduler_class in settings
    assert set(sampler.overrides) <= settings[sampler.scheduler_class]


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_is_found_by_its_name_whatever_the_case(name: str) -> None:
    for spelling in (name, name.upper(), f"  {name} "):
        assert find_sampler(spelling) == SAMPLERS[name]


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("Euler a", "euler_a"),
        ("DPM++ 2M Karras", "dpm++_2m_karras"),
        ("DPM++ 2M SDE", "dpm++_2m_sde"),
        ("k_dpmpp_2m", "dpm++_2m_karras"),
        ("PNDM", "plms"),
        ("DDIM", "ddim"),
        ("UniPC", "unipc"),
        ("DDIMScheduler", "DDIMScheduler"),
        ("dpmsolvermultistepscheduler", "DPMSolverMultistepScheduler"),
        ("EulerDiscrete", "EulerDiscreteScheduler"),
    ],
)
def test_other_programs_spellings_are_known(spelling: str, name: str) -> None:
    assert find_sampler(spelling).name == name


def test_a_class_name_keeps_the_models_own_settings() -> None:
    named = find_sampler("DPMSolverMultistepScheduler")
    assert named.overrides == {}
    assert find_sampler("dpm++_2m_karras").scheduler_class == named.scheduler_class


@pytest.mark.parametrize(
    ("spelling", "meant"), [("eulr", "euler"), ("dpm++_2m_karas", "dpm++_2m_karras")]
)
def test_a_misspelt_sampler_is_answered_with_the_nearest(spelling: str, meant: str) -> None:
    with pytest.raises(UnknownSampler, match="did you mean") as caught:
        find_sampler(spelling)
    assert f"no sampler {spelling!r}; did you mean {meant!r}? allowed: ddim, " in str(caught.value)


@pytest.mark.parametrize("spelling", ["", "zzzzzzzz", "🎨"])
def test_an_unknown_sampler_is_answered_with_all_names(spelling: str) -> None:
    with pytest.raises(UnknownSampler) as caught:
        find_sampler(spelling)
    short = [name for name in SAMPLERS if not name.endswith("Scheduler")]
    assert ", ".join(short) in str(caught.value)
