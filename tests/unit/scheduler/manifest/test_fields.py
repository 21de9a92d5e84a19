"""The fields a row may have."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.manifest.fields import FIELDS, field_named, is_kind, parse_field
from scheduler.manifest.limits import Limits
from scheduler.manifest.problems import FieldError
from scheduler.manifest.values import cell, encodable, shown
from storage.contract.items import SEED_MAX
from storage.contract.samplers import SAMPLERS

LIMITS = Limits()


def parse(name: str, value: object, limits: Limits = LIMITS) -> Any:
    return parse_field(FIELDS[name], value, limits)


def problem(name: str, value: object, limits: Limits = LIMITS) -> str:
    with pytest.raises(FieldError) as caught:
        parse(name, value, limits)
    assert caught.value.field == name
    return caught.value.message


# Names


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("prompt", "prompt"),
        (" Prompt ", "prompt"),
        ("CAPTION", "prompt"),
        ("Negative Prompt", "negative_prompt"),
        ("num-inference-steps", "num_inference_steps"),
        ("steps", "num_inference_steps"),
        ("cfg_scale", "guidance_scale"),
        ("Sampler", "scheduler"),
        ("n", "num_images"),
        ("num_images_per_prompt", "num_images"),
        ("model_id", "model"),
        ("init_image", "image"),
    ],
)
def test_usual_names_of_fields_are_known_whatever_their_case(name: str, field: str) -> None:
    found = field_named(name)
    assert found is not None
    assert found.name == field


def test_no_two_fields_share_a_name() -> None:
    names = [name for field in FIELDS.values() for name in (field.name, *field.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("promt", "prompt"),
        ("prompts", "prompt"),
        ("Prompt:", "prompt"),
        ("negativ_prompt", "negative_prompt"),
        ("widht", "width"),
        ("hieght", "height"),
        ("num_inference_step", "num_inference_steps"),
        ("guidence_scale", "guidance_scale"),
        ("seeds", "seed"),
        ("shceduler", "scheduler"),
        ("num_image", "num_images"),
        ("samplers", "scheduler"),
        ("revison", "revision"),
        ("caption_", "prompt"),
    ],
)
def test_a_name_that_is_nearly_a_field_is_an_error_with_a_suggestion(name: str, meant: str) -> None:
    with pytest.raises(FieldError) as caught:
        field_named(name)
    assert caught.value.field == name
    assert f"did you mean {meant!r}?" in caught.value.message
    assert f"name it 'tag.{name.strip()}'" in caught.value.message


@pytest.mark.parametrize(
    "name",
    [
        *("prompt_id", "weight", "test", "note", "category", "challenge", "id", "task", "mark"),
        *("name", "label", "style", "title", "source", "author", "license", "split", "language"),
        *("score", "rating", "subject", "text_id", "night", "stage", "tags2"),
        *("need", "number", "index", "scaled", "ratio", "aspect", "promise", "seedling"),
        *("", " ", "日本", "x" * 10_000),
    ],
)
def test_honest_names_of_tags_are_no_slips_of_the_pen(name: str) -> None:
    assert field_named(name) is None


@given(st.text(max_size=20))
def test_any_name_is_a_field_or_a_tag_or_a_clear_error(name: str) -> None:
    try:
        field = field_named(name)
    except FieldError:
        return
    assert field is None or name.strip().casefold()[:1] in {
        known[0] for known in (field.name, *field.aliases)
    }


# Values


@pytest.mark.parametrize(
    ("name", "value", "parsed"),
    [
        ("prompt", "", ""),
        ("prompt", "  a cat  ", "  a cat  "),
        ("model", " starter ", "starter"),
        ("seed", 0, 0),
        ("seed", SEED_MAX, SEED_MAX),
        ("seed", 7.0, 7),
        ("width", 512, 512),
        ("width", 1, 1),
        ("height", 8192, 8192),
        ("num_inference_steps", 1000, 1000),
        ("num_images", 10_000, 10_000),
        ("prompt", "x" * 10_000, "x" * 10_000),
        ("clip_skip", 0, 0),
        ("guidance_scale", 7, 7.0),
        ("guidance_scale", 0, 0.0),
        ("guidance_scale", 100.0, 100.0),
        ("scheduler", "Euler a", "euler_a"),
        ("scheduler", "EulerDiscreteScheduler", "EulerDiscreteScheduler"),
        ("prompt", cell(" a cat"), " a cat"),
        ("width", cell(" 512 "), 512),
        ("guidance_scale", cell("7.5"), 7.5),
        ("guidance_scale", cell("1e1"), 10.0),
    ],
)
def test_good_values_are_taken(name: str, value: object, parsed: object) -> None:
    got = parse(name, value)
    assert got == parsed
    assert type(got) is type(parsed)


WHOLE = ("seed", "num_images", "width", "height", "num_inference_steps", "clip_skip")


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize(
    "value",
    [
        *(True, False, None, "7", "", 7.5, float("nan"), float("inf"), [], {}, [7], b"7"),
        *map(cell, ("", "x", "7.5", "0x10", "1e3", "nan", "9" * 5000, "--7", "7 7")),
    ],
    ids=shown,
)
def test_what_is_no_whole_number_is_refused(name: str, value: object) -> None:
    assert problem(name, value).startswith("must be a whole number, not ")


@pytest.mark.parametrize(
    "value",
    [True, False, None, "7", [], {}, b"7", *map(cell, ("", "x", "7,5", "0x10"))],
    ids=shown,
)
def test_what_is_no_number_is_refused(value: object) -> None:
    assert problem("guidance_scale", value).startswith("must be a number, not ")


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), -float("inf"), 10**400, *map(cell, ("nan", "-inf", "1e999"))],
    ids=shown,
)
def test_numbers_must_be_finite(value: object) -> None:
    assert problem("guidance_scale", value).startswith("must be finite, not ")


@pytest.mark.parametrize("name", ["prompt", "negative_prompt", "model", "revision", "scheduler"])
@pytest.mark.parametrize("value", [1, 1.5, True, None, ["a"], {"a": 1}, b"a"], ids=shown)
def test_what_is_no_text_is_refused(name: str, value: object) -> None:
    assert problem(name, value) == f"must be text, not {shown(value)}"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("seed", -1, "must be 0 to 4294967295, not -1"),
        ("seed", SEED_MAX + 1, "must be 0 to 4294967295, not 4294967296"),
        ("seed", cell("-1"), "must be 0 to 4294967295, not -1"),
        ("width", -64, "must be 1 to 8192, not -64"),
        ("height", 0, "must be 1 to 8192, not 0"),
        ("width", 8193, "is 8193; the limit is 8,192 (RENDERMILL_MAX_SIDE)"),
        ("num_inference_steps", 0, "must be 1 to 1000, not 0"),
        ("num_inference_steps", 1001, "is 1001; the limit is 1,000 (RENDERMILL_MAX_STEPS)"),
        ("num_images", 0, "must be 1 to 10000, not 0"),
        ("num_images", 10001, "is 10001; the limit is 10,000 (RENDERMILL_MAX_IMAGES_PER_ROW)"),
        ("clip_skip", -1, "must be 0 to 24, not -1"),
        ("guidance_scale", -0.5, "must be 0 to 100, not -0.5"),
        ("guidance_scale", 100.5, "must be 0 to 100, not 100.5"),
        ("model", "   ", "is empty"),
        ("prompt", "a\0b", "holds a NUL character"),
        ("prompt", "a\ud800b", "is not UTF-8"),
        ("model", "a\udcffb", "is not UTF-8"),
        (
            "prompt",
            "x" * 10_001,
            "is 10,001 characters long; the limit is 10,000 (RENDERMILL_MAX_PROMPT_CHARS)",
        ),
        pytest.param(
            *("seed", 16**5000, "must be 0 to 4294967295, not a number of thousands of digits"),
            id="huge seed",
        ),
    ],
)
def test_values_out_of_bounds_are_refused_with_what_is_allowed(
    name: str, value: object, said: str
) -> None:
    assert problem(name, value) == said


def test_limits_are_those_given() -> None:
    strict = Limits(max_side=64, max_prompt_chars=3)
    assert parse("prompt", "abc", strict) == "abc"
    assert "RENDERMILL_MAX_PROMPT_CHARS" in problem("prompt", "abcd", strict)
    assert "the limit is 64" in problem("width", 72, strict)


# Samplers


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_can_be_named(name: str) -> None:
    assert parse("scheduler", name.upper()) == name


def test_an_unknown_sampler_is_refused_with_a_suggestion_and_all_that_are_allowed() -> None:
    said = problem("scheduler", "eulr_a")
    assert said.startswith("no sampler 'eulr_a'; did you mean 'euler_a'?")
    assert all(name in said for name in SAMPLERS if "Scheduler" not in name)


def test_an_unknown_sampler_like_no_other_is_refused_without_a_suggestion() -> None:
    assert problem("scheduler", "日本").startswith("no sampler '日本'; allowed: ddim, ")


# How values are shown


@given(st.recursive(st.none() | st.text() | st.integers(), st.lists, max_leaves=30))
def test_values_are_shown_in_few_characters(value: object) -> None:
    assert 0 < len(shown(value)) <= 60


def test_a_value_that_nests_into_gigabytes_is_shown_at_once() -> None:
    value: list[Any] = ["x"] * 10
    for _ in range(40):
        value = [value] * 10
    assert len(shown(value)) <= 60


def test_a_value_that_holds_itself_is_shown() -> None:
    value: list[Any] = []
    value.append(value)
    assert "[" in shown(value)


@pytest.mark.parametrize("value", [10**5000, -(10**5000)], ids=["above", "below"])
def test_a_number_that_python_will_not_write_out_is_shown_in_words(value: int) -> None:
    assert shown(value) == "a number of thousands of digits"


@given(st.text(st.characters(codec="utf-8")))
def test_texts_of_characters_can_be_written(text: str) -> None:
    assert encodable(text)


@pytest.mark.parametrize("text", ["\ud800", "a\udc00", "\udcffa"])
def test_texts_with_half_a_surrogate_pair_cannot_be_written(text: str) -> None:
    assert not encodable(text)


# Words


@pytest.mark.parametrize(
    ("name", "value", "parsed"),
    [
        ("resize_mode", "Pad", "pad"),
        ("resize_mode", cell(" stretch "), "stretch"),
        ("prompt_syntax", "WEIGHTED", "weighted"),
        ("dtype", "float16", "float16"),
        ("kind", "img2img", "image-to-image"),
        ("kind", "Depth to Image", "depth-to-image"),
        ("kind", "inpaint", "inpaint"),
        ("image", cell(" cat.png "), "cat.png"),
        ("strength", cell("0.75"), 0.75),
        ("noise_level", 20, 20),
        ("true_cfg_scale", 4, 4.0),
    ],
)
def test_words_are_taken_whatever_their_case(name: str, value: object, parsed: object) -> None:
    assert parse(name, value) == parsed


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("resize_mode", "fill", "must be one of crop, pad, stretch, not 'fill'"),
        ("dtype", "int8", "must be one of auto, float32, bfloat16, float16, not 'int8'"),
        ("prompt_syntax", 7, "must be text, not 7"),
        ("kind", "star", "must be one of text-to-image, image-to-image, inpaint, depth-to-image"),
        ("image", 7, "must be a path or a URL, not 7"),
        ("image", " ", "is empty"),
        ("image", ["a.png"], "must be a path or a URL, not ['a.png']"),
        ("strength", -0.1, "must be 0 to 1, not -0.1"),
        ("noise_level", 1001, "must be 0 to 1000, not 1001"),
    ],
)
def test_other_words_are_refused_with_what_is_allowed(name: str, value: object, said: str) -> None:
    assert problem(name, value).startswith(said)


@pytest.mark.parametrize(
    ("value", "means"),
    [
        ("inpaint", True),
        ("Image To Image", True),
        ("txt2img", True),
        ("animal", False),
        ("", False),
        (None, False),
        (7, False),
        (["inpaint"], False),
    ],
)
def test_a_kind_is_a_field_only_where_it_names_a_kind_of_task(value: object, means: bool) -> None:
    assert is_kind(value) is means


@pytest.mark.parametrize("value", ["inpant", "image-to-imag", "imgs2img", "up-scale"])
def test_what_is_nearly_a_kind_of_task_is_no_tag(value: str) -> None:
    with pytest.raises(ValueError, match="is no kind of task; did you mean"):
        is_kind(value)
