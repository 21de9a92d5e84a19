"""How the columns of a row map to fields and tags."""

from __future__ import annotations

import pytest

from scheduler.manifest.columns import Columns
from scheduler.manifest.problems import FieldError


def problem(*names: str) -> tuple[str | None, str]:
    with pytest.raises(FieldError) as caught:
        Columns(names)
    return caught.value.field, caught.value.message


def test_columns_are_fields_or_tags() -> None:
    columns = Columns(["Prompt", "steps", "Category", "tag.steps", "tags", "W"])
    assert columns.by_field == {"prompt": "Prompt", "num_inference_steps": "steps", "width": "W"}
    assert columns.tags == [("Category", "Category"), ("steps", "tag.steps")]
    assert columns.has_tags_object


def test_a_row_without_tags_object_has_none() -> None:
    assert not Columns(["prompt", "Tags"]).has_tags_object


@pytest.mark.parametrize(
    ("names", "values"),
    [
        (["prompt"], ()),
        (["prompt", "height"], (64,)),
        (["height", "steps", "prompt", "w"], (32, 64, 8)),
    ],
)
def test_the_values_of_a_group_are_in_one_order_whatever_that_of_the_columns(
    names: list[str], values: tuple[int, ...]
) -> None:
    row = {"prompt": "a", "height": 64, "steps": 8, "w": 32}
    columns = Columns(names)
    assert columns.group_values(row) == values
    assert len(columns.group_fields) == len(values)


def test_a_tag_may_have_the_name_of_a_field_if_it_says_so() -> None:
    columns = Columns(["prompt", "tag.prompt", "tag.seed"])
    assert columns.by_field == {"prompt": "prompt"}
    assert columns.tags == [("prompt", "tag.prompt"), ("seed", "tag.seed")]


def test_the_prefix_alone_is_a_tag_of_that_name() -> None:
    assert Columns(["prompt", "tag."]).tags == [("tag.", "tag.")]


@pytest.mark.parametrize(
    ("names", "field", "said"),
    [
        (["prompt", "caption"], "caption", "and 'prompt' both name prompt; remove one"),
        (["steps", "Steps"], "Steps", "and 'steps' both name num_inference_steps; remove one"),
        (["note", "tag.note"], "tag.note", "and 'note' both name note; remove one"),
        (["tag.note", "note"], "note", "and 'tag.note' both name note; remove one"),
        (["prompt", ""], None, "has a column without a name"),
        (["prompt", " \t"], None, "has a column without a name"),
    ],
)
def test_two_columns_for_one_thing_and_none_for_anything_are_errors(
    names: list[str], field: str | None, said: str
) -> None:
    assert problem(*names) == (field, said)


def test_a_column_that_is_nearly_a_field_is_an_error() -> None:
    field, said = problem("prompt", "widht")
    assert field == "widht"
    assert "did you mean 'width'?" in said
