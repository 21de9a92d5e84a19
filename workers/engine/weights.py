"""Automatic1111's way to weigh words: ``(word:1.3)``, ``((word))``, ``[word]``.

A bracket multiplies by 1.1, a square one divides by it, a number after a colon replaces the
bracket's own 1.1; a backslash before a bracket or backslash makes it a sign. What does not
close weighs up to the end; what closes nothing is a sign. Every text is readable: there are no
errors.

Not read: ``BREAK``, and what changes words from step to step (``[a:b:0.5]``, ``[a|b]``).
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

BRACKET: Final = 1.1
"""What a round bracket without a number multiplies by, and a square one divides by."""

WEIGHT_MAX: Final = 10.0
"""Weights stop here: above about 1.6 pictures fall apart, and numbers far above are not finite."""

_LOG_MAX: Final = math.log(2 * WEIGHT_MAX)

_SIGN: Final = re.compile(
    r"\\(?P<escaped>[\\()\[\]])|:\s*(?P<weight>[+-]?(?:\d{1,9}\.?\d*|\.\d+))\s*\)|(?P<bracket>[()\[\]])"
)


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a prompt; the next one has another weight."""

    text: str
    weight: float = 1.0


def passages_of(prompt: str) -> list[Passage]:
    """The passages of a prompt, marks taken away; at least one, if only an empty text."""
    marks = _Marks()
    at = 0
    for found in _SIGN.finditer(prompt):
        marks.pieces.append(prompt[at : found.start()])
        at = found.end()
        bracket = found["bracket"]
        if found["escaped"]:
            marks.pieces.append(found["escaped"])
        elif found["weight"]:
            marks.close("(", float(found["weight"]), found[0])
        elif bracket == ")":
            marks.close("(", BRACKET, bracket)
        elif bracket == "]":
            marks.close("[", 1 / BRACKET, bracket)
        else:
            marks.opened[bracket].append(len(marks.pieces))
    marks.pieces.append(prompt[at:])
    return _joined(marks.weighed())


def plain_text(prompt: str) -> str:
    """The prompt without its marks."""
    return "".join(passage.text for passage in passages_of(prompt))


class _Marks:
    """Pieces of a text and the factors over ranges of them, in time linear in both.

    Brackets of two kinds may overlap, as in Automatic1111. Factors are summed as logarithms from
    where their ranges begin to where they end.
    """

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.opened: dict[str, list[int]] = {"(": [], "[": []}
        self._logs: defaultdict[int, float] = defaultdict(float)
        self._zeros: defaultdict[int, int] = defaultdict(int)

    def close(self, bracket: str, factor: float, sign: str) -> None:
        """Weigh what was said since `bracket`; what closes nothing is a text."""
        if not self.opened[bracket]:
            self.pieces.append(sign)
            return
        start, end = self.opened[bracket].pop(), len(self.pieces)
        if factor > 0:
            self._logs[start] += math.log(factor)
            self._logs[end] -= math.log(factor)
        else:
            self._zeros[start] += 1
            self._zeros[end] -= 1

    def weighed(self) -> Iterator[tuple[str, float]]:
        """Pieces and their factors; what is open still reaches to the end."""
        for bracket, log in (("(", math.log(BRACKET)), ("[", -math.log(BRACKET))):
            for start in self.opened[bracket]:
                self._logs[start] += log
        log, zeros = 0.0, 0
        for number, piece in enumerate(self.pieces):
            log += self._logs[number]
            zeros += self._zeros[number]
            yield piece, 0.0 if zeros else math.exp(min(log, _LOG_MAX))


def _joined(pieces: Iterable[tuple[str, float]]) -> list[Passage]:
    """Neighbours of the same weight made one, weights within their bounds."""
    joined: list[Passage] = []
    for text, factor in pieces:
        if not text:
            continue
        weight = min(WEIGHT_MAX, round(factor, 6))
        if joined and joined[-1].weight == weight:
            joined[-1] = Passage(joined[-1].text + text, weight)
        else:
            joined.append(Passage(text, weight))
    return joined or [Passage("")]
