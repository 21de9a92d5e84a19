"""What a user says beside the manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scheduler.manifest.jobfile import JobFile
from scheduler.manifest.limits import Limits
from scheduler.manifest.problems import FieldError
from scheduler.service.options import (
    SubmitOptions,
    canonical_settings,
    pairs,
    rules_of,
    split_pairs,
)
from storage.contract.errors import InputError

LIMITS = Limits()


def options(**overrides: Any) -> SubmitOptions:
    return SubmitOptions(manifest="a.txt", **overrides)


def job(**overrides: Any) -> JobFile:
    return JobFile(items=[], **overrides)


def problem(asked: SubmitOptions, said: JobFile) -> tuple[str | None, str]:
    with pytest.raises(FieldError) as caught:
        rules_of(asked, said, LIMITS)
    return caught.value.field, caught.value.message


def test_options_are_texts_and_are_read_as_in_a_table() -> None:
    rules = rules_of(
        options(
            defaults={"steps": " 8 ", "prompt": "a cat"},
            overrides={"Sampler": "Euler a", "cfg": "7"},
        ),
        job(),
        LIMITS,
    )
    assert rules.defaults == {"num_inference_steps": 8, "prompt": "a cat"}
    assert rules.overrides == {"scheduler": "euler_a", "guidance_scale": 7.0}
    assert rules.limits is LIMITS


def test_a_job_file_has_types_and_its_texts_are_no_numbers() -> None:
    rules = rules_of(options(), job(defaults={"steps": 8, "cfg": 1}), LIMITS)
    assert rules.defaults == {"num_inference_steps": 8, "guidance_scale": 1.0}
    assert problem(options(), job(defaults={"steps": "8"})) == (
        "defaults.steps",
        "must be a whole number, not '8'",
    )


def test_defaults_of_the_command_line_beat_those_of_the_job_file() -> None:
    rules = rules_of(
        options(defaults={"num_inference_steps": "16"}),
        job(defaults={"steps": 8, "width": 64}),
        LIMITS,
    )
    assert rules.defaults == {"num_inference_steps": 16, "width": 64}


@pytest.mark.parametrize(
    ("on_command_line", "in_file", "seed"), [(None, None, 0), (None, 7, 7), (5, 7, 5), (0, 7, 0)]
)
def test_the_seed_of_the_command_line_beats_that_of_the_job_file(
    on_command_line: int | None, in_file: int | None, seed: int
) -> None:
    assert rules_of(options(seed=on_command_line), job(seed=in_file), LIMITS).seed == seed


@pytest.mark.parametrize(
    ("asked", "said", "field", "message"),
    [
        ({"overrides": {"colour": "red"}}, {}, "--set colour", "is no field"),
        ({"defaults": {"colour": "red"}}, {}, "--default colour", "is no field"),
        ({}, {"defaults": {"colour": "red"}}, "defaults.colour", "is no field"),
        ({"overrides": {"widht": "8"}}, {}, "--set widht", "is no field; did you mean 'width'?"),
        ({"overrides": {"steps": ""}}, {}, "--set steps", "must be a whole number, not ''"),
        ({"overrides": {"steps": "0"}}, {}, "--set steps", "must be 1 to 1000, not 0"),
        ({"overrides": {"prompt": "a\udcff"}}, {}, "--set prompt", "is not UTF-8"),
        ({"defaults": {"strength": "2"}}, {}, "--default strength", "must be 0 to 1, not 2"),
        (
            {"overrides": {"steps": "8", "num_inference_steps": "9"}},
            {},
            "--set num_inference_steps",
            "names num_inference_steps a second time",
        ),
        (
            {},
            {"defaults": {"num_inference_steps": 8, "steps": 9}},
            "defaults.steps",
            "names num_inference_steps a second time",
        ),
        ({}, {"sweep": [{"seed": [-1]}]}, "sweep.1.seed", "must be 0 to 4294967295, not -1"),
        (
            {"overrides": {"cfg": "1"}},
            {"sweep": [{"seed": [1]}, {"guidance_scale": [1, 2]}]},
            "--set guidance_scale",
            "the job file sweeps it; remove one of the two",
        ),
    ],
)
def test_a_wrong_rule_is_refused_by_the_place_it_was_given_in(
    asked: dict[str, Any], said: dict[str, Any], field: str, message: str
) -> None:
    found, words = problem(options(**asked), job(**said))
    assert found == field
    assert words.startswith(message)


# Pairs


def test_pairs_are_cut_at_the_first_sign_of_equality() -> None:
    assert pairs(["a=1", " b = x=y ", "c="], "--set") == {"a": "1", "b": " x=y ", "c": ""}


@pytest.mark.parametrize("text", ["a", "", "=1", " =1"])
def test_what_is_no_pair_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError) as caught:
        pairs([text], "--set")
    assert (
        caught.value.message == f"--set {text}: must be NAME=VALUE, such as num_inference_steps=8"
    )


def test_a_name_that_is_given_twice_is_refused() -> None:
    with pytest.raises(InputError, match=r"^--set steps: is there twice$"):
        pairs(["steps=8", "seed=1", " steps =8"], "--set")


def test_where_names_may_come_twice_all_are_kept_in_order() -> None:
    found = split_pairs(["kind=star", "kind=", "a=b=c"], "--tag", example="kind=star")
    assert found == [("kind", "star"), ("kind", ""), ("a", "b=c")]


# Settings, as they go into a job's digest


def settings(asked: SubmitOptions, said: JobFile) -> str:
    return canonical_settings(asked, rules_of(asked, said, LIMITS))


SAME = options(overrides={"steps": "8", "cfg": "7"})


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (options(overrides={"cfg": "7.0", "num_inference_steps": " 8"}), job()),
        (options(overrides={"cfg": "7", "steps": "8"}, name="x", priority=5), job(name="y")),
        (options(overrides={"cfg": "7", "steps": "8"}, on_cpu=False), job(seed=0)),
    ],
    ids=["other spelling", "name and priority", "device"],
)
def test_settings_that_mean_the_same_are_the_same(asked: SubmitOptions, said: JobFile) -> None:
    assert settings(asked, said) == settings(SAME, job())


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (options(overrides={"steps": "9", "cfg": "7"}), job()),
        (options(defaults={"steps": "8", "cfg": "7"}), job()),
        (options(overrides={"steps": "8", "cfg": "7"}, seed=1), job()),
        (options(overrides={"steps": "8", "cfg": "7"}, model="other"), job()),
        (options(overrides={"steps": "8", "cfg": "7"}, dtype="float16"), job()),
        (options(overrides={"steps": "8", "cfg": "7"}, skip_invalid=True), job()),
        (options(overrides={"steps": "8", "cfg": "7"}), job(sweep=[{"width": [64]}])),
        (options(overrides={"steps": "8", "cfg": "7"}), job(defaults={"width": 64})),
    ],
    ids=["value", "default", "seed", "model", "dtype", "skip", "sweep", "job default"],
)
def test_settings_that_decide_items_make_a_difference(asked: SubmitOptions, said: JobFile) -> None:
    assert settings(asked, said) != settings(SAME, job())


def test_settings_are_json_that_people_can_read() -> None:
    found = json.loads(settings(options(overrides={"prompt": "日本"}), job(seed=3)))
    assert found["seed"] == 3
    assert found["overrides"] == {"prompt": "日本"}


# Dynamic prompts


def test_prompts_are_plain_where_nobody_asked_for_more() -> None:
    rules = rules_of(options(), job(), LIMITS)
    assert rules.dynamic is None
    assert "dynamic" not in canonical_settings(options(), rules)


def test_a_mode_of_the_options_goes_before_the_job_files() -> None:
    said = job(dynamic_prompts="combinatorial")
    combinatorial = rules_of(options(), said, LIMITS).dynamic
    assert combinatorial is not None
    assert combinatorial.count("{a|b}", "", 1) == 2
    random = rules_of(options(dynamic_prompts="random"), said, LIMITS).dynamic
    assert random is not None
    assert random.count("{a|b}", "", 1) == 1


def test_draws_follow_the_jobs_seed() -> None:
    def draws(seed: int) -> list[str]:
        dynamic = rules_of(options(seed=seed, dynamic_prompts="random"), job(), LIMITS).dynamic
        assert dynamic is not None
        return [text.prompt for text in dynamic.texts("{0|1|2|3|4|5|6|7|8|9}", "", 0, 9)]

    assert draws(1) == draws(1) != draws(2)


def test_wildcards_lie_beside_the_job_file_and_those_of_the_options_come_first(
    tmp_path: Path,
) -> None:
    for folder in ("own", "jobs/words"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.txt").write_text(folder)
    (tmp_path / "jobs/words/b.txt").write_text("b")
    asked = SubmitOptions(
        manifest=str(tmp_path / "jobs" / "a.yaml"), wildcards=[str(tmp_path / "own")]
    )
    said = job(wildcards=["words"], dynamic_prompts="random")
    rules = rules_of(asked, said, LIMITS)
    assert rules.dynamic is not None
    (texts,) = rules.dynamic.texts("__a__ __b__", "", 0, 1)
    assert texts.prompt == "own b"
    before = canonical_settings(asked, rules)
    (tmp_path / "own" / "a.txt").write_text("changed")
    again = rules_of(asked, said, LIMITS)
    assert again.dynamic is not None
    again.dynamic.count("__a__ __b__", "", 1)
    assert canonical_settings(asked, again) != before


@pytest.mark.parametrize(
    ("asked", "said", "field", "message"),
    [
        ({"dynamic_prompts": "all"}, {}, "--dynamic-prompts", "must be random or combinatorial"),
        ({}, {"dynamic_prompts": "jinja"}, "dynamic_prompts", "must be random or combinatorial"),
        ({"wildcards": ["none"]}, {}, "--wildcards", "none: there is no such folder"),
        ({"wildcards": ["a\0b"]}, {}, "--wildcards", "a\0b: there is no such folder"),
        ({}, {"wildcards": ["none"]}, "wildcards", "none: there is no such folder"),
        ({"wildcards": ["."]}, {}, "--wildcards", "are used by dynamic prompts only"),
        ({}, {"wildcards": ["."]}, "wildcards", "are used by dynamic prompts only"),
    ],
)
def test_what_was_asked_wrongly_of_dynamic_prompts_is_named(
    asked: dict[str, Any], said: dict[str, Any], field: str, message: str
) -> None:
    place, words = problem(options(**asked), job(**said))
    assert (place, words[: len(message)]) == (field, message)
