"""Automatic1111's way to weigh words."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.engine.weights import WEIGHT_MAX, Passage, passages_of, plain_text


@pytest.mark.parametrize(
    ("prompt", "passages"),
    [
        ("", [("", 1)]),
        ("a cat", [("a cat", 1)]),
        ("a (red) cat", [("a ", 1), ("red", 1.1), (" cat", 1)]),
        ("((a))", [("a", 1.21)]),
        ("[a]", [("a", 0.909091)]),
        ("a (red:1.3) cat", [("a ", 1), ("red", 1.3), (" cat", 1)]),
        ("(a (b:2):0.5)", [("a ", 0.5), ("b", 1)]),
        ("(a (b) c:1.5)", [("a ", 1.5), ("b", 1.65), (" c", 1.5)]),
        ("(a: .5 )", [("a", 0.5)]),
        ("(a:+2)(b:2)", [("ab", 2)]),
        ("(a:0)(b:-1)", [("ab", 0)]),
        ("(a:100)", [("a", WEIGHT_MAX)]),
        ("(" + "(a:9)" * 400, [("a" * 400, 9.9)]),
        ("(" * 400 + "a" + ":9)" * 400, [("a", WEIGHT_MAX)]),
        (r"\(a\) \[b\] \\ \n", [(r"(a) [b] \ \n", 1)]),
        ("(a:b)", [("a:b", 1.1)]),
        ("(a:1.2.3)", [("a:1.2.3", 1.1)]),
        ("a:1.3)", [("a:1.3)", 1)]),
        ("[a:1.3)", [("a:1.3)", 0.909091)]),
        ("a) b]", [("a) b]", 1)]),
        ("a (b", [("a ", 1), ("b", 1.1)]),
        ("(a [b) c]", [("a ", 1.1), ("b", 1), (" c", 0.909091)]),
        ("()", [("", 1)]),
        ("(a)b(c)", [("a", 1.1), ("b", 1), ("c", 1.1)]),
    ],
)
def test_a_prompt_becomes_passages(prompt: str, passages: list[tuple[str, float]]) -> None:
    assert passages_of(prompt) == [Passage(text, weight) for text, weight in passages]


@given(st.text(st.sampled_from("ab ()[]:\\.123-"), max_size=100))
def test_any_text_is_readable(prompt: str) -> None:
    passages = passages_of(prompt)
    assert passages
    assert all(0 <= passage.weight <= WEIGHT_MAX for passage in passages)
    assert all(one.weight != two.weight for one, two in itertools.pairwise(passages))


def written(passages: list[Passage]) -> str:
    signs = {sign: "\\" + sign for sign in "()[]\\"}
    return "".join(
        f"({''.join(signs.get(sign, sign) for sign in passage.text)}:{passage.weight})"
        for passage in passages
    )


@given(
    st.lists(
        st.tuples(st.text(min_size=1, max_size=9), st.integers(0, 1000).map(lambda n: n / 100)),
        min_size=1,
        max_size=5,
    ).filter(lambda them: all(a[1] != b[1] for a, b in itertools.pairwise(them)))
)
def test_passages_that_are_written_down_are_read_again(them: list[tuple[str, float]]) -> None:
    passages = [Passage(text, weight) for text, weight in them]
    assert passages_of(written(passages)) == passages
    assert plain_text(written(passages)) == "".join(text for text, _ in them)


@pytest.mark.parametrize("piece", ["(", "[", ")", "(a", "(a:1", ":1.3)", "\\", "(a)", "a:", "1"])
def test_a_hostile_text_takes_no_time(piece: str) -> None:
    started = time.process_time()
    passages_of(piece * (10_000 // len(piece)))
    passages_of(piece * (5_000 // len(piece)) + ")" * 5_000)
    assert time.process_time() - started < 0.5
