"""Checking single values: text, numbers, and how messages show them."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Collection
from typing import Any, Final

from scheduler.manifest.limits import Limits, exceeded

Parse = Callable[[object, Limits], Any]


class _Cell(str):
    """A cell of a text table: a number may hide in it."""

    __slots__ = ()


def cell(text: str) -> str:
    """Mark `text` as coming from a table without types."""
    return _Cell(text)


def is_cell(value: object) -> bool:
    """Whether `value` comes from a table without types."""
    return isinstance(value, _Cell)


# Never spells a value out whole: a few lines of YAML can nest into gigabytes of text.
_brief: Final = reprlib.Repr()
_brief.maxstring = _brief.maxlong = _brief.maxother = 60


def shown(value: object) -> str:
    """A value as messages show it: short, however large it is."""
    try:
        text = _brief.repr(value)
    except ValueError:  # Python refuses to write out integers of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."


def text(value: object, limits: Limits) -> str:
    """Text that can be written down; `ValueError` says what is wrong with it."""
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {shown(value)}")
    if len(value) > limits.max_prompt_chars:
        said = f"is {len(value):,} characters long"
        raise ValueError(exceeded(said, limits.max_prompt_chars, "max_prompt_chars"))
    if "\0" in value:
        raise ValueError("holds a NUL character")
    if not encodable(value):
        raise ValueError("is not UTF-8")
    return str(value)  # a cell becomes plain text: items are encoded, and subclasses refused


def encodable(text: str) -> bool:
    """Whether `text` can be written; half a surrogate pair, as in a broken file name, cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def name(value: object, limits: Limits) -> str:
    """Text without space around it, which must not be empty."""
    stripped = text(value, limits).strip()
    if not stripped:
        raise ValueError("is empty")
    return stripped


def whole(value: object) -> int:
    """A whole number; text is taken from tables only, where everything is text."""
    if isinstance(value, _Cell):
        try:
            return int(value.strip())
        except ValueError:
            raise ValueError(f"must be a whole number, not {shown(str(value))}") from None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be a whole number, not {shown(value)}")
    return value


def number(value: object) -> float:
    """A finite number; text is taken from tables only."""
    if isinstance(value, _Cell):
        try:
            found = float(value.strip())
        except ValueError:
            raise ValueError(f"must be a number, not {shown(str(value))}") from None
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be a number, not {shown(value)}")
    else:
        found = _float(value)
    if not math.isfinite(found):
        raise ValueError(f"must be finite, not {found}")
    return found


def whole_in(low: int, high: Callable[[Limits], tuple[int, str | None]]) -> Parse:
    """Parses whole numbers from `low` to what `high` says, with the setting that says so."""

    def parse(value: object, limits: Limits) -> int:
        found = whole(value)
        top, setting = high(limits)
        if found > top and setting:
            raise ValueError(exceeded(f"is {shown(found)}", top, setting))
        if not low <= found <= top:
            raise ValueError(f"must be {low} to {top}, not {shown(found)}")
        return found

    return parse


def number_in(low: float, high: float) -> Parse:
    """Parses numbers from `low` to `high`."""

    def parse(value: object, _limits: Limits) -> float:
        found = number(value)
        if not low <= found <= high:
            raise ValueError(f"must be {low:g} to {high:g}, not {found:g}")
        return found

    return parse


def one_of(allowed: Collection[str]) -> Parse:
    """Parses one of these words, whatever its case."""

    def parse(value: object, limits: Limits) -> str:
        word = name(value, limits).casefold().replace("_", "-")
        if word not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}, not {shown(word)}")
        return word

    return parse


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf
