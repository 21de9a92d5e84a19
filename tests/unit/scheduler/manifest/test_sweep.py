"""Sweeps: axes of values, zipped inside an axis, multiplied across axes."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.manifest.limits import Limits
from scheduler.manifest.problems import FieldError
from scheduler.manifest.sweep import combinations

LIMITS = Limits()


def problem(axes: list[dict[str, Any]], limits: Limits = LIMITS) -> tuple[str | None, str]:
    with pytest.raises(FieldError) as caught:
        combinations(axes, limits)
    return caught.value.field, caught.value.message


def test_no_axes_are_one_empty_combination() -> None:
    assert combinations([], LIMITS) == [{}]


def test_fields_of_one_axis_are_zipped() -> None:
    assert combinations([{"width": [512, 768], "height": [768, 512]}], LIMITS) == [
        {"width": 512, "height": 768},
        {"width": 768, "height": 512},
    ]


def test_axes_are_multiplied_the_first_changing_least() -> None:
    axes = [{"seed": [1, 2]}, {"steps": [8, 16, 24]}]
    assert [(one["seed"], one["num_inference_steps"]) for one in combinations(axes, LIMITS)] == [
        (1, 8),
        (1, 16),
        (1, 24),
        (2, 8),
        (2, 16),
        (2, 24),
    ]


def test_values_are_parsed_and_named_as_fields() -> None:
    assert combinations([{"Sampler": ["Euler a"], "cfg": [7]}], LIMITS) == [
        {"scheduler": "euler_a", "guidance_scale": 7.0}
    ]


SIDES = st.lists(st.integers(1, 64), min_size=1, max_size=4)


@given(SIDES, SIDES, SIDES)
def test_a_sweep_has_as_many_combinations_as_the_product_of_its_axes(
    widths: list[int], heights: list[int], seeds: list[int]
) -> None:
    axes = [{"width": widths}, {"height": heights}, {"seed": seeds}]
    found = combinations(axes, LIMITS)
    assert len(found) == math.prod(len(axis) for axis in (widths, heights, seeds))
    assert [one["width"] for one in found[:: len(heights) * len(seeds)]] == widths
    assert [one["seed"] for one in found[: len(seeds)]] == seeds


@pytest.mark.parametrize(
    ("axes", "field", "said"),
    [
        ([{}], "sweep.1", "names no field"),
        ([{"seed": []}], "sweep.1.seed", "must be a list of values"),
        ([{"seed": 7}], "sweep.1.seed", "must be a list of values"),
        ([{"seed": [1]}, {"category": ["a"]}], "sweep.2.category", "is no field that can be swept"),
        ([{"num_images": [1]}], "sweep.1.num_images", "is no field that can be swept"),
        ([{"n": [1]}], "sweep.1.n", "is no field that can be swept"),
        ([{"steps": [1], "num_inference_steps": [1]}], "sweep.1.num_inference_steps", "names"),
        ([{"steps": [1]}, {"Steps": [2]}], "sweep.2", "num_inference_steps is swept twice"),
        ([{"seed": [1, -1]}], "sweep.1.seed", "must be 0 to 4294967295, not -1"),
        ([{"cfg": [1.0, True]}], "sweep.1.cfg", "must be a number, not True"),
        ([{"strength": [1.5]}], "sweep.1.strength", "must be 0 to 1, not 1.5"),
        (
            [{"width": [8, 16], "height": [8, 16, 24]}],
            "sweep.1",
            "fields of one axis are zipped and need equally many values: width has 2, height has 3",
        ),
    ],
)
def test_a_wrong_axis_is_refused_by_its_number_and_field(
    axes: list[dict[str, Any]], field: str, said: str
) -> None:
    found, message = problem(axes)
    assert found == field
    assert message.startswith(said)


def test_a_slip_of_the_pen_is_refused_with_a_suggestion() -> None:
    _, said = problem([{"widht": [8]}])
    assert "did you mean 'width'?" in said


def test_too_many_combinations_are_refused_before_any_is_made() -> None:
    axes = [{name: list(range(1, 9000))} for name in ("seed", "width", "height", "steps")]
    field, said = problem(axes, Limits(max_side=10_000, max_steps=10_000))
    assert field == "sweep"
    assert said == (
        f"has {8999**4:,} combinations; the limit is 10,000 (RENDERMILL_MAX_IMAGES_PER_ROW)"
    )


def test_as_many_combinations_as_allowed_are_made() -> None:
    limits = Limits(max_images_per_row=6)
    assert len(combinations([{"seed": [1, 2]}, {"steps": [1, 2, 3]}], limits)) == 6
    assert problem([{"seed": [1, 2]}, {"steps": [1, 2, 3, 4]}], limits)[0] == "sweep"
