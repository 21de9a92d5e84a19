"""What templates may become: counted, enumerated, drawn from."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.manifest.choices import MANY, Chain, Choice, Literal, Node


def choice(*texts: str, low: int = 1, high: int = 1, weights: list[float] | None = None) -> Choice:
    nodes = [Literal(text) for text in texts]
    return Choice(nodes, weights or [1.0] * len(nodes), low=low, high=high)


def nodes() -> st.SearchStrategy[Node]:
    def wider(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
        several = st.lists(inner, min_size=1, max_size=3)
        return st.one_of(
            several.map(Chain),
            st.builds(
                lambda these, low, more, separator: Choice(
                    these, [1.0] * len(these), low=low, high=low + more, separator=separator
                ),
                several,
                st.integers(0, 2),
                st.integers(0, 2),
                st.sampled_from([",", " and ", "|"]),
            ),
        )

    return st.recursive(st.text("ab", max_size=2).map(Literal), wider, max_leaves=6)


@given(nodes())
def test_as_many_are_made_as_were_counted_and_none_is_longer_than_was_said(node: Node) -> None:
    made = list(itertools.islice(node.each(), 3000))
    assert len(made) == min(node.count, 3000)
    assert max(map(len, made)) <= node.longest


@given(nodes(), st.integers(0, 2**32))
def test_what_is_drawn_is_one_of_the_combinations(node: Node, seed: int) -> None:
    drawn = node.pick(Random(seed))
    if node.count <= 3000:
        assert drawn in set(node.each())


@given(nodes(), st.integers(0, 2**32))
def test_the_same_seed_draws_the_same(node: Node, seed: int) -> None:
    assert node.pick(Random(seed)) == node.pick(Random(seed))


def test_the_last_part_changes_fastest() -> None:
    node = Chain([choice("a", "b"), Literal(" "), choice("c", "d")])
    assert list(node.each()) == ["a c", "a d", "b c", "b d"]


def test_several_come_in_every_order_and_fewer_before_more() -> None:
    assert list(choice("a", "b", low=0, high=2).each()) == ["", "a", "b", "a,b", "b,a"]


def test_more_than_there_are_means_all() -> None:
    assert list(choice("a", "b", low=5, high=9).each()) == ["a,b", "b,a"]


def test_an_empty_text_at_an_end_leaves_no_separator() -> None:
    assert list(choice("a", "", low=2, high=2).each()) == ["a", "a"]


def test_weights_decide_how_often_one_is_drawn() -> None:
    random = Random(1)
    node = choice("a", "b", "c", weights=[3, 1, 0])
    counts = Counter(node.pick(random) for _ in range(4000))
    assert counts["a"] == pytest.approx(3000, rel=0.05)
    assert counts["a"] + counts["b"] == 4000


def test_weights_hold_for_the_first_of_several_too() -> None:
    random = Random(1)
    node = choice("a", "b", "c", low=2, high=2, weights=[2, 1, 1])
    counts = Counter(node.pick(random)[0] for _ in range(4000))
    assert counts["a"] == pytest.approx(2000, rel=0.06)


def test_how_many_are_drawn_is_even_between_the_bounds() -> None:
    random = Random(1)
    node = choice("a", "b", "c", low=0, high=3)
    counts = Counter(len(node.pick(random).replace(",", "")) for _ in range(4000))
    assert all(counts[size] == pytest.approx(1000, rel=0.1) for size in range(4))


@pytest.mark.parametrize(
    "node",
    [
        Chain([choice(*map(str, range(10)))] * 300),
        choice(*map(str, range(5000)), low=1, high=5000),
        choice(*map(str, range(100_000)), low=2, high=4),
    ],
)
def test_what_cannot_be_counted_is_known_to_be_too_many(node: Node) -> None:
    assert node.count == MANY


def test_a_million_combinations_begin_at_once() -> None:
    started = time.process_time()
    node = Chain([choice(*"0123456789")] * 12)
    assert node.count == 10**12
    assert list(itertools.islice(node.each(), 2)) == ["0" * 12, "0" * 11 + "1"]
    assert time.process_time() - started < 0.1
