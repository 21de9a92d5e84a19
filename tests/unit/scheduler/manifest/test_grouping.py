"""Numbering groups, and settling each one's specification."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from scheduler.manifest.grouping import Describe, GroupTable
from scheduler.manifest.limits import Limits
from scheduler.manifest.problems import FieldError
from storage.contract.errors import ModelError
from storage.contract.models import ModelCard
from storage.testing.factories import make_card

Make = Callable[..., GroupTable]


@pytest.fixture
def table(describe: Describe) -> Make:
    """Makes a table of groups."""

    def make(*, limits: Limits | None = None, card: ModelCard | None = None) -> GroupTable:
        return GroupTable(
            (lambda _model, _revision: card) if card is not None else describe,
            default_model="starter",
            dtype="auto",
            limits=limits or Limits(),
        )

    return make


def problem(groups: GroupTable, **settings: Any) -> tuple[str | None, str]:
    with pytest.raises(FieldError) as caught:
        groups.group_of(settings)
    return caught.value.field, caught.value.message


def test_what_rows_do_not_say_is_the_models() -> None:
    card = make_card(width=96, height=32, num_inference_steps=9, guidance_scale=2.5)
    groups = GroupTable(
        lambda _model, _revision: card, default_model="starter", dtype="float16", limits=Limits()
    )
    groups.group_of({})
    (group,) = groups.groups
    spec = group.spec
    assert (spec.width, spec.height, spec.num_inference_steps) == (96, 32, 9)
    assert (spec.guidance_scale, spec.scheduler) == (2.5, "DDIMScheduler")
    assert (spec.model, spec.revision, spec.dtype, spec.clip_skip) == (
        *("starter", None, "float16", None),
    )


def test_what_rows_say_beats_the_model_even_if_it_is_nothing(table: Make) -> None:
    groups = table()
    groups.group_of({"guidance_scale": 0.0, "clip_skip": 0, "width": 8, "scheduler": "ddim"})
    spec = groups.groups[0].spec
    assert (spec.guidance_scale, spec.clip_skip, spec.width, spec.scheduler) == (0.0, 0, 8, "ddim")


def test_the_same_settings_have_the_same_number_and_numbers_count_up(table: Make) -> None:
    groups = table()
    asked: list[dict[str, Any]] = [
        {},
        {"width": 128},
        {"width": 64},  # the model's own
        {"model": "other"},
        {"width": 128, "model": None},
        {"revision": "abc"},
        {"scheduler": "DDIMScheduler"},  # the model's own
    ]
    assert [groups.group_of(one) for one in asked] == [0, 1, 0, 2, 1, 3, 0]
    assert len(groups.groups) == 4


def test_a_model_is_asked_for_once() -> None:
    asked: list[tuple[str, str | None]] = []

    def look_up(model: str, revision: str | None) -> ModelCard:
        asked.append((model, revision))
        if model == "missing":
            raise ModelError("no model 'missing'")
        return make_card(model=model, revision=revision)

    groups = GroupTable(look_up, default_model="starter", dtype="auto", limits=Limits())
    for _ in range(3):
        groups.group_of({})
        groups.group_of({"model": "other", "revision": "abc"})
        problem(groups, model="missing")
    assert asked == [("starter", None), ("other", "abc"), ("missing", None)]


def test_an_unknown_model_is_a_problem_of_its_field_and_says_what_to_do(table: Make) -> None:
    assert problem(table(), model="nothing") == (
        "model",
        "no model 'nothing' (there are: starter, other)",
    )


@pytest.mark.parametrize(
    ("side", "said"),
    [
        (60, "must be divisible by 8; 60 is not, 56 and 64 would be"),
        (513, "must be divisible by 8; 513 is not, 512 and 520 would be"),
        (15, "must be divisible by 8; 15 is not, 8 and 16 would be"),
        (7, "must be divisible by 8; 7 is not, 8 would be"),
        (1, "must be divisible by 8; 1 is not, 8 would be"),
    ],
)
@pytest.mark.parametrize("name", ["width", "height"])
def test_a_size_that_is_not_divisible_names_the_sizes_next_to_it(
    table: Make, name: str, side: int, said: str
) -> None:
    assert problem(table(), **{name: side}) == (name, said)


def test_layers_to_skip_must_be_there(table: Make) -> None:
    groups = table(card=make_card(text_layers=4))
    groups.group_of({"clip_skip": 3})
    assert problem(groups, clip_skip=4) == ("clip_skip", "must be 0 to 3 for this model, not 4")


def test_a_model_whose_own_sampler_is_unknown_needs_one_named(table: Make) -> None:
    groups = table(card=make_card(scheduler="NobodysScheduler"))
    field, said = problem(groups)
    assert field == "scheduler"
    assert said.startswith("the model's own cannot be used, name one: no sampler 'Nobodys")
    assert groups.group_of({"scheduler": "euler"}) == 0


def test_too_many_groups_are_refused(table: Make) -> None:
    groups = table(limits=Limits(max_groups=2))
    groups.group_of({"width": 8})
    groups.group_of({"width": 16})
    assert problem(groups, width=24) == (
        None,
        "rows differ in their settings too often to be batched; the limit is 2"
        " (RENDERMILL_MAX_GROUPS)",
    )
    assert groups.group_of({"width": 8}) == 0
