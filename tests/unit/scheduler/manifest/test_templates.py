"""Templates of prompts, parsed."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.manifest.templates import (
    MAX_DEPTH,
    Option,
    TemplateFault,
    Variants,
    Wildcard,
    is_template,
    parse_template,
)


def variants(*texts: str, low: int = 1, high: int = 1, separator: str = ",") -> Variants:
    options = tuple(Option(1.0, (text,) if text else ()) for text in texts)
    return Variants(options, low, high, separator)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ()),
        ("a cat", ("a cat",)),
        ("a {red|blue} cat", ("a ", variants("red", "blue"), " cat")),
        ("{a|}", (variants("a", ""),)),
        ("{}", (variants(""),)),
        ("{2$$a|b}", (variants("a", "b", low=2, high=2),)),
        ("{ 2$$a|b}", (variants("a", "b", low=2, high=2),)),
        ("{2$$ and $$a|b}", (variants("a", "b", low=2, high=2, separator=" and "),)),
        ("{1-2$$a|b}", (variants("a", "b", low=1, high=2),)),
        ("{2-1$$a|b}", (variants("a", "b", low=1, high=2),)),
        ("{0-1$$a|b}", (variants("a", "b", low=0, high=1),)),
        ("{-2$$a|b|c}", (variants("a", "b", "c", low=1, high=2),)),
        ("{2-$$a|b|c}", (variants("a", "b", "c", low=2, high=3),)),
        ("{ a | very }", (variants("a ", "very "),)),
        ("a|b", ("a|b",)),
        ("50% of $5 in C# // http://a", ("50% of $5 in C# // http://a",)),
        (r"\{a\|b\} \$\{", ("{a|b} ${",)),
        (r"\(a\) \n", (r"\(a\) \n",)),
        ("__colour__", (Wildcard("colour"),)),
        ("a __big/art_style__.", ("a ", Wildcard("big/art_style"), ".")),
        ("__a__b__", (Wildcard("a"), "b__")),
        ("snake_case ____ __init", ("snake_case ____ __init",)),
        (r"\__a__ __b c__", ("__a__ __b c__",)),
        ("__farbe-höhe*__", (Wildcard("farbe-höhe*"),)),
        ("a\nb", ("a\nb",)),
    ],
)
def test_a_template_becomes_its_parts(text: str, parts: object) -> None:
    assert parse_template(text) == parts


@pytest.mark.parametrize(
    ("text", "weights"),
    [("{3::a|b}", [3, 1]), ("{0.5::a| .5::b|1.::c}", [0.5, 0.5, 1]), ("{2$$3::a|0::b}", [3, 0])],
)
def test_options_have_weights(text: str, weights: list[float]) -> None:
    (part,) = parse_template(text)
    assert isinstance(part, Variants)
    assert [option.weight for option in part.options] == weights
    assert [option.parts for option in part.options] == [("a",), ("b",), ("c",)][: len(weights)]


def test_options_hold_variants_and_wildcards() -> None:
    (part,) = parse_template("{a {b|c}|__d__}")
    assert isinstance(part, Variants)
    assert [option.parts for option in part.options] == [
        ("a ", variants("b", "c")),
        (Wildcard("d"),),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a {b|c", "character 3: '{' is not closed"),
        ("a {b|{c}", "character 3: '{' is not closed"),
        ("{", "character 1: '{' is not closed"),
        ("a {b}} c", "character 6: '}' closes nothing"),
        ("|}", "character 2: '}' closes nothing"),
        ("{$$a|b}", "character 1: $$ needs a number before it"),
        ("{0::a|0::b}", "character 1: weights must be"),
        (f"{{{'9' * 400}::a|b}}", "character 1: weights must be"),
        ("${x=a}", r"character 1: ${ (variables and wraps) is not available; write $\{"),
        ("50 %{a$$b}", "character 4: %{ (variables and wraps) is not available"),
        ("{" * 21 + "}" * 21, "character 21: braces are nested deeper than 20 levels"),
    ],
)
def test_a_fault_is_named_with_its_place(text: str, message: str) -> None:
    with pytest.raises(TemplateFault) as caught:
        parse_template(text)
    assert str(caught.value).startswith(message)


def test_braces_may_be_nested_as_deep_as_is_said() -> None:
    assert parse_template("{" * MAX_DEPTH + "a" + "}" * MAX_DEPTH)


@given(st.text(st.sampled_from("ab{}|$%_\\:1-,. /*\n"), max_size=200))
def test_any_text_is_a_template_or_a_fault(text: str) -> None:
    try:
        parts = parse_template(text)
    except TemplateFault:
        assert is_template(text)
        return
    if not is_template(text):
        assert parts == ((text,) if text else ())


@given(st.text(st.sampled_from("ab{}|_$%:1, "), max_size=100))
def test_a_text_with_its_signs_escaped_is_that_text(text: str) -> None:
    escaped = "".join("\\" + sign if sign in "{}|_$%" else sign for sign in text)
    assert parse_template(escaped) == ((text,) if text else ())


@pytest.mark.parametrize(
    "piece", ["{", "{a|", "__", "__a", "__a ", "\\", "{1$$", "${a", "{1::", "|"]
)
def test_a_hostile_text_takes_no_time(piece: str) -> None:
    started = time.process_time()
    with contextlib.suppress(TemplateFault):
        parse_template(piece * (10_000 // len(piece)))
    assert time.process_time() - started < 0.5
