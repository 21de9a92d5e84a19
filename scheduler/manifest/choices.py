"""What a template may become: counted, enumerated, drawn from.

Nodes form a tree without cycles (a wildcard's node is shared wherever it is used). Every node
knows how many texts it can become, how long the longest is and how many steps making one takes,
all computed from its parts' numbers alone and never above `MANY`, so that a template of 10^300
combinations is known as such in microseconds.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from random import Random
from typing import Final, Protocol

MANY: Final = 10**18
"""Numbers stop here: no limit is larger."""


class Node(Protocol):
    """A part of a template, its wildcards resolved."""

    count: int  #: combinations
    longest: int  #: characters
    steps: int  #: nodes passed on the way to one text, at most
    depth: int  #: nodes inside nodes

    def each(self) -> Iterator[str]:
        """Every combination, the last part changing fastest."""

    def pick(self, random: Random) -> str:
        """One of them."""


class Literal:
    """A text."""

    count = 1
    steps = 1
    depth = 1

    def __init__(self, text: str) -> None:
        self._text = text
        self.longest = len(text)

    def each(self) -> Iterator[str]:
        """The text."""
        yield self._text

    def pick(self, random: Random) -> str:
        """The text."""
        return self._text


class Chain:
    """Parts one after the other."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes
        self.count = _capped_product(node.count for node in nodes)
        self.longest = min(MANY, sum(node.longest for node in nodes))
        self.steps = min(MANY, 1 + sum(node.steps for node in nodes))
        self.depth = 1 + max((node.depth for node in nodes), default=0)

    def each(self) -> Iterator[str]:
        """The product of the parts' combinations."""
        return map("".join, _products(self._nodes))

    def pick(self, random: Random) -> str:
        """One of each part."""
        return "".join(node.pick(random) for node in self._nodes)


class Choice:
    """`low` to `high` different ones of its options, in any order, joined."""

    def __init__(
        self,
        nodes: Sequence[Node],
        weights: Sequence[float],
        *,
        low: int = 1,
        high: int = 1,
        separator: str = ",",
    ) -> None:
        """There is at least one node, and one weight above 0. Weights matter to `pick` only."""
        self._nodes = nodes
        self._weights = weights
        self._sums = list(itertools.accumulate(weights))
        self._low = min(low, len(nodes))
        self._high = min(high, len(nodes))
        self._separator = separator
        most = self._high
        self.count = _count_choices([node.count for node in nodes], self._low, most)
        longest = max(node.longest for node in nodes)
        self.longest = min(MANY, most * longest + max(0, most - 1) * len(separator))
        self.steps = min(MANY, 1 + most * max(node.steps for node in nodes))
        self.depth = 1 + max(node.depth for node in nodes)

    def each(self) -> Iterator[str]:
        """As the options stand, fewer before more; in every order."""
        for size in range(self._low, self._high + 1):
            for chosen in itertools.permutations(self._nodes, size):
                for texts in _products(chosen):
                    yield self._joined(texts)

    def pick(self, random: Random) -> str:
        """So many, drawn by weight one after the other, none twice."""
        size = self._low + int(random.random() * (self._high - self._low + 1))
        if size == 1:
            at = bisect_right(self._sums, random.random() * self._sums[-1])
            return self._nodes[min(at, len(self._nodes) - 1)].pick(random)
        return self._joined([self._nodes[at].pick(random) for at in self._drawn(size, random)])

    def _drawn(self, size: int, random: Random) -> list[int]:
        """Efraimidis and Spirakis: the smallest of exponential variates, in their order."""
        keys = [
            -math.log(1.0 - random.random()) / weight if weight else math.inf
            for weight in self._weights
        ]
        return sorted(range(len(keys)), key=keys.__getitem__)[:size]

    def _joined(self, texts: Sequence[str]) -> str:
        if len(texts) == 1:
            return texts[0]
        joined = self._separator.join(texts)
        return joined.removeprefix(self._separator).removesuffix(self._separator)


def _products(nodes: Sequence[Node]) -> Iterator[list[str]]:
    """Texts of all nodes, the last one changing fastest; in memory is one of each.

    Recursion goes only into nodes that can be more than one text, of which a product that is
    not `MANY` has few.
    """
    texts = ["" if node.count > 1 else next(node.each()) for node in nodes]
    varying = [at for at, node in enumerate(nodes) if node.count > 1]

    def turn(place: int) -> Iterator[list[str]]:
        if place == len(varying):
            yield texts
            return
        at = varying[place]
        for text in nodes[at].each():
            texts[at] = text
            yield from turn(place + 1)

    return turn(0)


def _capped_product(counts: Iterator[int]) -> int:
    product = 1
    for count in counts:
        product = min(MANY, product * count)
    return product


def _count_choices(counts: Sequence[int], low: int, high: int) -> int:
    """Ordered selections of `low` to `high` options, times each option's own combinations."""
    if _permutations(len(counts), high) >= MANY:
        return MANY
    if high == 1:
        return min(MANY, (low == 0) + sum(counts))
    # Elementary symmetric polynomials: selections of each size, their order left out.
    selections = [1] + [0] * high
    for count in counts:
        for size in range(high, 0, -1):
            selections[size] = min(MANY, selections[size] + count * selections[size - 1])
    total = sum(selections[size] * math.factorial(size) for size in range(low, high + 1))
    return min(MANY, total)


def _permutations(options: int, size: int) -> int:
    """As `math.perm`, stopping at `MANY`."""
    product = 1
    for left in range(options, options - size, -1):
        product *= left
        if product >= MANY:
            return MANY
    return product
