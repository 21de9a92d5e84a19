"""Templates of prompts: ``{a|b}``, ``{2$$a|b|c}``, ``{3::a|b}`` and ``__wildcard__``, parsed.

The language is that of Automatic1111's Dynamic Prompts extension and its `dynamicprompts`
package (a test compares the two), less what is a program (variables, wraps, Jinja) and less
comments, so that ``50%``, ``$5`` and ``C#`` stay texts. The parser is our own because it reads
what users of others write: it takes time in proportion to the text, says where a fault is, and
knows a depth it does not pass. A backslash before ``{ } | _ $ %`` makes the sign a text.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

MAX_DEPTH: Final = 20
"""Braces inside braces."""

DEFAULT_SEPARATOR: Final = ","


class TemplateFault(ValueError):
    """A template cannot be read; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Wildcard:
    """``__name__``: one line of a file."""

    name: str


@dataclass(frozen=True, slots=True)
class Option:
    """One of the texts between bars."""

    weight: float
    parts: Parts


@dataclass(frozen=True, slots=True)
class Variants:
    """``{...}``: between `low` and `high` of its options, joined by `separator`."""

    options: tuple[Option, ...]
    low: int
    high: int
    separator: str


Part = str | Wildcard | Variants
Parts = tuple[Part, ...]

_SIGN: Final = re.compile(
    r"""
    \\(?P<escaped>[{}|_$%])
    | (?P<program>[$%]\{)
    | (?P<sign>[{}|])
    | __(?!_)(?P<wildcard>(?:(?!__)[\w*./-])+)__
    """,
    re.VERBOSE,
)
_BOUNDS: Final = re.compile(
    r"\s*(?:(?P<low>\d{1,9})?(?P<dash>-))?(?P<high>\d{1,9})?\$\$(?:(?P<separator>[^${}]+)\$\$)?"
)
_WEIGHT: Final = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)::")
_SPACE: Final = re.compile(r"\s*")


def is_template(text: str) -> bool:
    """Whether anything in `text` has a meaning beside itself."""
    return _SIGN.search(text) is not None


def parse_template(text: str) -> Parts:
    """The parts of a template; `TemplateFault` for one that cannot be read."""
    return _Parser(text).parts()


class _Parser:
    """One text; `_at` is how far it has been read."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def parts(self) -> Parts:
        parts, end = self._sequence(0)
        while end:  # a bar or a brace outside of braces
            if end == "}":
                raise self._fault(self._at, "'}' closes nothing; write \\} for the sign")
            more, end = self._sequence(0)
            parts = _tidy([*parts, "|", *more])
        return parts

    def _sequence(self, depth: int) -> tuple[Parts, str]:
        """The parts up to a bar or closing brace, and which of them it was ("" at the end)."""
        parts: list[Part] = []
        while (found := _SIGN.search(self._text, self._at)) is not None:
            parts.append(self._text[self._at : found.start()])
            self._at = found.end()
            if found["escaped"]:
                parts.append(found["escaped"])
            elif found["wildcard"]:
                parts.append(Wildcard(found["wildcard"]))
            elif found["program"]:
                said = f"{found['program']} (variables and wraps) is not available"
                raise self._fault(found.end() - 1, f"{said}; write {found['program'][0]}\\{{")
            elif found["sign"] == "{":
                parts.append(self._variants(depth + 1))
            else:
                return _tidy(parts), found["sign"]
        parts.append(self._text[self._at :])
        self._at = len(self._text)
        return _tidy(parts), ""

    def _variants(self, depth: int) -> Variants:
        opened = self._at
        if depth > MAX_DEPTH:
            raise self._fault(opened, f"braces are nested deeper than {MAX_DEPTH} levels")
        bounds = self._taken(_BOUNDS)
        options: list[Option] = []
        end = "|"
        while end == "|":
            weight = self._taken(_WEIGHT)
            self._taken(_SPACE)  # a space before an option does not count; one behind it does
            parts, end = self._sequence(depth)
            options.append(Option(float(weight[1]) if weight else 1.0, parts))
        if not end:
            raise self._fault(opened, "'{' is not closed; write \\{ for the sign")
        total = math.fsum(option.weight for option in options)
        if not 0 < total < math.inf:
            raise self._fault(opened, "weights must be numbers of which one is above 0")
        return self._bounded(opened, bounds, options)

    def _bounded(
        self, opened: int, bounds: re.Match[str] | None, options: list[Option]
    ) -> Variants:
        low = high = 1
        separator = None
        if bounds is not None:
            if not bounds["dash"] and not bounds["high"]:
                raise self._fault(opened, "$$ needs a number before it: {2$$a|b|c}")
            high = int(bounds["high"]) if bounds["high"] else len(options)
            low = int(bounds["low"] or 1) if bounds["dash"] else high
            separator = bounds["separator"]
            if not bounds["high"] and _is_wildcard(options):
                high = ALL
        low, high = sorted((low, high))
        return Variants(tuple(options), low, high, separator or DEFAULT_SEPARATOR)

    def _taken(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._at)
        if found is not None:
            self._at = found.end()
        return found

    def _fault(self, at: int, message: str) -> TemplateFault:
        return TemplateFault(f"character {at}: {message}")


ALL: Final = 10**9
"""An upper bound that stands for as many as there are."""


def _is_wildcard(options: list[Option]) -> bool:
    return len(options) == 1 and [type(part) for part in options[0].parts] == [Wildcard]


def _tidy(parts: list[Part]) -> Parts:
    """Texts side by side made one, empty ones left out."""
    tidy: list[Part] = []
    for part in parts:
        if part == "":
            continue
        if isinstance(part, str) and tidy and isinstance(tidy[-1], str):
            tidy[-1] += part
        else:
            tidy.append(part)
    return tuple(tidy)
