"""Dynamic prompts: what a row's templates become."""

from __future__ import annotations

import itertools
import time
import tracemalloc
import warnings
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scheduler.manifest.dynamic import DynamicPrompts, Mode
from scheduler.manifest.limits import Limits
from scheduler.manifest.problems import FieldError
from scheduler.manifest.texts import Texts
from scheduler.manifest.wildcards import Wildcards


def dynamic(
    mode: Mode = Mode.COMBINATORIAL,
    folder: Path | None = None,
    files: dict[str, str] | None = None,
    *,
    seed: int = 0,
    **limits: int,
) -> DynamicPrompts:
    for name, text in (files or {}).items():
        assert folder
        (folder / f"{name}.txt").write_text(text)
    bounds = Limits(**limits)
    return DynamicPrompts(
        mode, Wildcards([folder] if folder else [], bounds), seed=seed, limits=bounds
    )


def prompts(these: DynamicPrompts, text: str, *, row: int = 0, n: int = 1) -> list[str]:
    count = these.count(text, "", n)
    made = [texts.prompt for texts in these.texts(text, "", row, n)]
    assert len(made) == count
    return made


def fault(these: DynamicPrompts, prompt: str, negative: str = "") -> str:
    with pytest.raises(FieldError) as caught:
        these.count(prompt, negative, 1)
    return f"{caught.value.field}: {caught.value.message}"


# Each combination


def test_each_combination_is_rendered_so_many_times() -> None:
    assert prompts(dynamic(), "a {red|blue} {cat|dog}", n=2) == [
        text for text in ("a red cat", "a red dog", "a blue cat", "a blue dog") for _ in range(2)
    ]


def test_prompt_and_negative_prompt_are_multiplied_and_their_templates_kept() -> None:
    these = dynamic()
    assert these.count("{a|b}", "{c|d}", 1) == 4
    assert list(these.texts("{a|b}", "{c|d}", 0, 1)) == [
        Texts(prompt, negative, "{a|b}", "{c|d}") for prompt in "ab" for negative in "cd"
    ]


def test_a_plain_text_stays_itself_and_has_no_template() -> None:
    these = dynamic()
    assert list(these.texts("50% off", "", 0, 2)) == [Texts("50% off", "")] * 2


def test_wildcards_hold_templates_and_wildcards(tmp_path: Path) -> None:
    files = {"pet": "{big|small} cat\n__bird__", "bird": "owl\nheron"}
    assert prompts(dynamic(folder=tmp_path, files=files), "a __pet__") == [
        "a big cat", "a small cat", "a owl", "a heron",
    ]  # fmt: skip


def test_several_of_a_wildcard_are_several_of_its_lines(tmp_path: Path) -> None:
    these = dynamic(folder=tmp_path, files={"c": "red\nblue"})
    assert prompts(these, "{2$$ and $$__c__}") == ["red and blue", "blue and red"]
    assert prompts(these, "{1-$$__c__}") == ["red", "blue", "red,blue", "blue,red"]


# Random draws


def test_each_image_has_a_draw_of_its_own_that_does_not_change() -> None:
    text = "{" + "|".join(map(str, range(1000))) + "}"
    made = prompts(dynamic(Mode.RANDOM), text, n=4)
    assert made == prompts(dynamic(Mode.RANDOM), text, n=4)
    assert made[:2] == prompts(dynamic(Mode.RANDOM), text, n=2)
    assert len(set(made)) == 4
    assert made == ["305", "124", "978", "383"]  # as it was when it was written: a promise


def test_draws_differ_by_row_seed_and_text() -> None:
    text = "{" + "|".join(map(str, range(10**4 // 6))) + "}"
    these = dynamic(Mode.RANDOM)
    ((prompt, negative, *_),) = these.texts(text, text, 0, 1)
    assert prompt != negative
    assert prompts(these, text, row=1) != prompts(these, text, row=0)
    assert prompts(dynamic(Mode.RANDOM, seed=1), text) != prompts(these, text)


def test_a_draw_from_more_than_can_be_counted_is_a_draw() -> None:
    assert len(prompts(dynamic(Mode.RANDOM), "{0|1|2|3|4|5|6|7|8|9}" * 300)[0]) == 300


# What is refused


def test_too_many_combinations_are_refused_at_once() -> None:
    these = dynamic()
    these.count("{a|b}", "", 1)  # what is made once
    started = time.process_time()
    said = fault(these, "{0|1|2|3|4|5|6|7|8|9}" * 12)
    assert time.process_time() - started < 0.1
    assert said == (
        "prompt: has 1,000,000,000,000 combinations; the limit is 10,000"
        " (RENDERMILL_MAX_EXPANSIONS_PER_ROW)"
    )


def test_the_limit_is_on_both_texts_together() -> None:
    assert "has 4 combinations; the limit is 3" in fault(
        dynamic(max_expansions_per_row=3), "{a|b}", "{a|b}"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a {b", "character 3: '{' is not closed; write \\{ for the sign"),
        ("__none__", "none: there is no such wildcard in {}"),
        ("__self__", "self: the wildcard holds itself (self > self)"),
        ("__a__", "a: the wildcard holds itself (a > b > a)"),
        ("__bad__", "{}/bad.txt:2: character 1: '{{' is not closed; write \\{{ for the sign"),
        ("__long0__", "may become 16,384 characters long; the limit is 10,000"),
        ("__wide0__", "takes more than 10,000 steps to expand"),
        ("__deep0__", "is nested deeper than 60 levels"),
    ],
)
@pytest.mark.parametrize("mode", Mode)
def test_a_template_that_cannot_be_used_is_named(
    tmp_path: Path, mode: Mode, text: str, message: str
) -> None:
    files = {"self": "__self__", "a": "__b__", "b": "{c|__a__}", "bad": "fine\n{d"}
    files |= {f"long{n}": f"__long{n + 1}__" * 2 for n in range(10)} | {
        "long10": "0123456789abcdef"
    }
    files |= {f"wide{n}": f"__wide{n + 1}__" * 2 for n in range(40)} | {"wide40": "{}"}
    files |= {f"deep{n}": f"__deep{n + 1}__" for n in range(90)} | {"deep90": "{}"}
    these = dynamic(mode, tmp_path, files)
    expected = message.format(tmp_path) if "{}" in message else message
    assert fault(these, text).startswith(f"prompt: {expected}")
    assert fault(these, "a", text).startswith(f"negative_prompt: {expected}")


def test_memory_stays_flat_over_many_combinations() -> None:
    these = dynamic(max_expansions_per_row=10**6)
    text = "{0|1|2|3|4|5|6|7|8|9}" * 5
    assert these.count(text, "", 1) == 10**5
    tracemalloc.start()
    (last,) = deque(these.texts(text, "", 0, 1), maxlen=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert last.prompt == "99999"
    assert peak < 1 << 20


# The language is that of the dynamicprompts package


def texts_of_the_language() -> st.SearchStrategy[str]:
    words = st.sampled_from(["red", "a b", "owl,", " x ", "(y:1.2)"])

    def wider(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        marks = st.sampled_from(["", "", "2$$", "1-2$$", "0-1$$", "2$$ and $$", "-2$$", "1-$$"])
        options = st.lists(inner, min_size=1, max_size=3)
        variants = st.builds(lambda mark, these: f"{{{mark}{'|'.join(these)}}}", marks, options)
        return st.one_of(variants, st.lists(inner, min_size=2, max_size=2).map("".join))

    return st.recursive(words, wider, max_leaves=5)


@settings(deadline=None)
@given(texts_of_the_language())
def test_combinations_are_those_of_the_dynamicprompts_package(text: str) -> None:
    package: Any = pytest.importorskip("dynamicprompts.generators")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pyparsing, about names of its own
        try:
            theirs = package.CombinatorialPromptGenerator().generate(text, 1000)
        except RuntimeError:  # it fails where two are to be taken of options that are all alike
            assume(False)
    these = dynamic(max_expansions_per_row=10**9)
    ours = list(itertools.islice((t.prompt for t in these.texts(text, "", 0, 1)), 1000))
    if len(ours) == len(set(ours)):  # it leaves out what is there twice, even inside of braces
        assert ours == theirs
    else:
        assert set(theirs) <= set(ours)
