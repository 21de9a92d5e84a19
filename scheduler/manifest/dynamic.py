"""Dynamic prompts: what a row's templates become, item by item.

*Random*: each image of a row gets texts of its own, drawn from the job's seed, the row and the
image's number alone, so that a rerun is the same and other rows do not matter. *Combinatorial*:
each combination is rendered, ``num_images`` times. Combinations are counted before any is made,
and made one at a time.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from enum import StrEnum
from random import Random
from typing import TYPE_CHECKING, Final

from scheduler.manifest.choices import MANY, Chain, Choice, Literal, Node
from scheduler.manifest.limits import Limits, exceeded
from scheduler.manifest.problems import FieldError
from scheduler.manifest.templates import (
    Parts,
    TemplateFault,
    Variants,
    Wildcard,
    is_template,
    parse_template,
)
from scheduler.manifest.texts import Texts, TextSource
from scheduler.manifest.wildcards import WildcardFault, Wildcards

MAX_DEPTH: Final = 60
"""Nodes inside nodes: braces, wildcards, and wildcards inside them."""

MAX_STEPS: Final = 10_000
"""Nodes passed to make one text."""

_KEPT: Final = 10_000  # templates understood


class Mode(StrEnum):
    """How templates are expanded."""

    RANDOM = "random"
    COMBINATORIAL = "combinatorial"


class DynamicPrompts:
    """Expands the prompts of a job."""

    def __init__(self, mode: Mode, wildcards: Wildcards, *, seed: int, limits: Limits) -> None:
        """`seed` is the job's."""
        self.mode = mode
        self._wildcards = wildcards
        self._seed = seed
        self._limits = limits
        self._nodes: dict[str, Node] = {}
        self._shared: dict[str, Node] = {}
        self._open: list[str] = []  # wildcards being understood, to see circles

    @property
    def digest(self) -> str:
        """What decides the texts beside templates and seed."""
        return f"{self.mode} {self._wildcards.digest}"

    def count(self, prompt: str, negative: str, num_images: int) -> int:
        """Images that these texts become; `FieldError` for a template that cannot be used."""
        combinations = 1
        for name, text in (("prompt", prompt), ("negative_prompt", negative)):
            combinations *= self._checked(name, text).count
        if self.mode is Mode.RANDOM:
            return num_images
        limit = self._limits.max_expansions_per_row
        if combinations > limit:
            several = "more than 10^18" if combinations >= MANY else f"{combinations:,}"
            said = f"has {several} combinations"
            raise FieldError("prompt", exceeded(said, limit, "max_expansions_per_row"))
        return combinations * num_images

    def texts(self, prompt: str, negative: str, row: int, num_images: int) -> Iterator[Texts]:
        """The texts of each image, in the order of their numbers; `count` has checked them."""
        made_from = (
            prompt if is_template(prompt) else None,
            negative if is_template(negative) else None,
        )
        first, second = self._node(prompt), self._node(negative)
        if self.mode is Mode.RANDOM:
            for image_no in range(num_images):
                yield Texts(
                    first.pick(self._random(row, image_no, 0)),
                    second.pick(self._random(row, image_no, 1)),
                    *made_from,
                )
            return
        for text in first.each():
            for other in second.each():
                for _ in range(num_images):
                    yield Texts(text, other, *made_from)

    def _random(self, row: int, image_no: int, which: int) -> Random:
        """Only `Random.random` of it is used, whose numbers Python promises not to change."""
        numbers = struct.pack("<QQQQ", self._seed, row, image_no, which)
        seed = hashlib.blake2b(numbers, digest_size=16, person=b"dynamic prompts").digest()
        return Random(int.from_bytes(seed, "little"))  # noqa: S311 (no secret)

    def _checked(self, name: str, text: str) -> Node:
        try:
            node = self._node(text)
        except (TemplateFault, WildcardFault) as error:
            raise FieldError(name, str(error)) from None
        limit = self._limits.max_prompt_chars
        if node.longest > limit:
            said = f"may become {node.longest:,} characters long"
            raise FieldError(name, exceeded(said, limit, "max_prompt_chars"))
        return node

    def _node(self, text: str) -> Node:
        node = self._nodes.get(text)
        if node is None:
            if len(self._nodes) >= _KEPT:
                self._nodes.clear()
            node = self._chain(parse_template(text)) if is_template(text) else Literal(text)
            self._nodes[text] = node
        return node

    def _chain(self, parts: Parts) -> Node:
        nodes = [self._part(part) for part in parts]
        return _bounded(nodes[0] if len(nodes) == 1 else Chain(nodes))

    def _part(self, part: str | Wildcard | Variants) -> Node:
        if isinstance(part, str):
            return Literal(part)
        if isinstance(part, Wildcard):
            return self._wildcard(part.name)
        only = part.options[0].parts if len(part.options) == 1 else ()
        if len(only) == 1 and isinstance(only[0], Wildcard):
            # {2$$__colour__}: that many of the wildcard's texts.
            nodes, weights = self._understood(only[0].name)
        else:
            nodes = [self._chain(option.parts) for option in part.options]
            weights = [option.weight for option in part.options]
        return _bounded(
            Choice(nodes, weights, low=part.low, high=part.high, separator=part.separator)
        )

    def _wildcard(self, name: str) -> Node:
        if name not in self._shared:
            self._shared[name] = _bounded(Choice(*self._understood(name)))
        return self._shared[name]

    def _understood(self, name: str) -> tuple[list[Node], list[float]]:
        if name in self._open:
            circle = " > ".join([*self._open[self._open.index(name) :], name])
            raise WildcardFault(f"{name}: the wildcard holds itself ({circle})")
        values = self._wildcards.values(name)
        self._open.append(name)
        try:
            nodes: list[Node] = []
            for value in values:
                try:
                    parts = parse_template(value.text) if is_template(value.text) else (value.text,)
                except TemplateFault as error:
                    raise WildcardFault(f"{value.place}: {error}") from None
                nodes.append(self._chain(parts))
            return nodes, [value.weight for value in values]
        finally:
            self._open.pop()


def _bounded(node: Node) -> Node:
    """Refuse what would be too deep or too long to make."""
    if node.depth > MAX_DEPTH:
        raise TemplateFault(f"is nested deeper than {MAX_DEPTH} levels")
    if node.steps > MAX_STEPS:
        raise TemplateFault(f"takes more than {MAX_STEPS:,} steps to expand")
    return node


if TYPE_CHECKING:

    def _source(prompts: DynamicPrompts) -> TextSource:
        return prompts
