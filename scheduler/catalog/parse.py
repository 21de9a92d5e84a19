"""Reading a query: Lucene's syntax by luqum, what it means for images here.

What could cost time or memory is refused before luqum sees it: length, depth, wildcards. Its
tree is then turned into ours, every word placed, so that a fault is said with its column.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final

from luqum import tree as lucene
from luqum.exceptions import ParseError
from luqum.thread import parse as parse_lucene

from scheduler.catalog.faults import fault
from scheduler.catalog.values import moment, number, shortened
from storage.contract.search import (
    BY_NAME,
    Between,
    Everything,
    Field,
    Is,
    Kind,
    Like,
    Not,
    Or,
    Tree,
    both,
    field_of,
)

LONGEST: Final = 8_000
DEEPEST: Final = 32
MOST_WILDCARDS: Final = 40
MOST_CLAUSES: Final = 200
NESTED_QUERIES: Final = 8
MOST_SIGNS: Final = 8

Saved = Callable[[str], str | None]
"""The text of a saved query; None: there is none of that name."""

_BEFORE_MINUS = re.compile(r"(?<=[<>=:\[{ ])-(?=\d+[smhdwySMHDWY]\b)")
_SIGNS = re.compile(rf"(?:[-+!]\s*|NOT\s+){{{MOST_SIGNS + 1},}}")
_PLACE = re.compile(r"at position (\d+)")
_UNEXPECTED = re.compile(r"unexpected\s+'(.*)' at", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_WILD = re.compile(r"(?<!\\)(?:\\\\)*[*?]")


def _none_saved(_name: str) -> str | None:
    return None


def parse(text: str, *, now: float, saved: Saved = _none_saved, _depth: int = 0) -> Tree:
    """The query a text means; `now` is what ``-7d`` is counted from.

    Raises `QueryError` with the column of the first fault.
    """
    if not text.strip():
        return Everything()
    _refuse_abuse(text)
    reader = _Reader(text=text, now=now, saved=saved, depth=_depth)
    return reader.read()


def _refuse_abuse(text: str) -> None:  # noqa: C901 - one pass over the letters
    if len(text) > LONGEST:
        raise fault(text[: LONGEST + 1], LONGEST, f"longer than {LONGEST:,} characters")
    signs = _SIGNS.search(text)
    if signs is not None:
        raise fault(text, signs.start(), f"more than {MOST_SIGNS} signs in a row")
    if text.count(":") > 2 * MOST_CLAUSES:
        raise fault(text, len(text), f"more than {2 * MOST_CLAUSES} colons")
    depth = wildcards = clauses = 0
    quoted: int | None = None
    escaped = False
    for at, letter in enumerate(text):
        if not letter.isprintable() and letter not in "\t\n\r":
            raise fault(text, at, f"a control character (U+{ord(letter):04X})")
        if escaped or letter == "\\":
            escaped = not escaped
            continue
        if letter == '"':
            quoted = at if quoted is None else None
        elif quoted is None:
            depth += (letter == "(") - (letter == ")")
            wildcards += letter in "*?"
            clauses += letter == " "
            if depth > DEEPEST:
                raise fault(text, at, f"more than {DEEPEST} parentheses within each other")
            if wildcards > MOST_WILDCARDS:
                raise fault(text, at, f"more than {MOST_WILDCARDS} wildcards")
            if clauses > MOST_CLAUSES * 4:
                raise fault(text, at, f"more than {MOST_CLAUSES} conditions")
    if quoted is not None:
        raise fault(text, quoted, "this quotation mark is never closed")


@dataclass(kw_only=True)
class _Reader:
    text: str
    now: float
    saved: Saved
    depth: int
    clauses: int = 0
    _added: list[int] = field(default_factory=list)

    def read(self) -> Tree:
        """The whole query."""
        prepared = self._prepared()
        try:
            return self._node(parse_lucene(prepared), None)
        except ParseError as error:
            raise self._syntax(str(error)) from None
        except RecursionError:
            raise fault(self.text, 0, "too deeply nested") from None

    def _prepared(self) -> str:
        """``-7d`` with its minus escaped: luqum takes a minus for a NOT."""
        parts, last = [], 0
        for found in _BEFORE_MINUS.finditer(self.text):
            behind = self.text[: found.start()].rstrip(" ")
            if behind.endswith((">", "<", "=", "[", "{", " TO", ":")):
                parts.append(self.text[last : found.start()] + "\\")
                last = found.start()
                self._added.append(found.start() + len(self._added))
        return "".join(parts) + self.text[last:]

    def _at(self, node: Any) -> int:
        at: int = node.pos or 0
        return at - sum(added < at for added in self._added)

    def _syntax(self, said: str) -> Exception:
        place = _PLACE.search(said)
        if place is None:
            return fault(self.text, len(self.text.rstrip()), "something is missing at the end")
        at = int(place.group(1))
        at -= sum(added < at for added in self._added)
        found = _UNEXPECTED.search(said)
        what = found.group(1) if found else self.text[at : at + 10]
        return fault(self.text, at, f"did not expect {shortened(what)} here")

    def _node(self, node: Any, known: Field | None) -> Tree:  # noqa: PLR0911 - a return a kind
        match node:
            case lucene.OrOperation():
                return Or(tuple(self._node(child, known) for child in node.children))
            case lucene.AndOperation() | lucene.UnknownOperation():
                return both(*(self._node(child, known) for child in node.children))
            case lucene.Prohibit() if known is not None and known.kind not in _TEXTS:
                return self._equal(f"-{node.a}".strip(), known, node)
            case lucene.Not() | lucene.Prohibit():
                return Not(self._node(node.a, known))
            case lucene.Group() | lucene.FieldGroup():
                return self._node(node.expr, known)
            case lucene.Plus():
                return self._node(node.a, known)
            case lucene.SearchField():
                return self._field(node, known)
        self.clauses += 1
        if self.clauses > MOST_CLAUSES:
            raise fault(self.text, self._at(node), f"more than {MOST_CLAUSES} conditions")
        return self._leaf(node, known)

    def _leaf(self, node: Any, known: Field | None) -> Tree:
        match node:
            case lucene.Word():
                return self._word(node, known)
            case lucene.Phrase():
                return self._equal(_plain(node.value[1:-1]), known or _PROMPT, node)
            case lucene.Range():
                return self._range(node, known)
            case lucene.From():
                return self._range(
                    lucene.Range(node.a, lucene.Word("*"), node.include), known, node
                )
            case lucene.To():
                whole = lucene.Range(lucene.Word("*"), node.a, include_high=node.include)
                return self._range(whole, known, node)
        meant = {"Fuzzy": "~", "Proximity": "~", "Boost": "^", "Regex": "/…/"}
        sign = meant.get(type(node).__name__, type(node).__name__)
        raise fault(self.text, self._at(node), f"{sign} is not understood here", hint=_QUOTE)

    def _field(self, node: Any, outer: Field | None) -> Tree:
        name, at = _plain(node.name), self._at(node)
        known = field_of(name)
        if outer is not None:
            said = f"{name}: stands within {outer.name}:"
            raise fault(self.text, at, said, hint=_QUOTE)
        if known is None:
            close = get_close_matches(name.casefold(), BY_NAME, n=1, cutoff=0.6)
            meant = f"did you mean {close[0]}?" if close else f"a tag is tag.{name}; {_QUOTE}"
            raise fault(self.text, at, f"there is no field {shortened(name)}", hint=meant)
        return self._node(node.expr, known)

    def _word(self, node: Any, known: Field | None) -> Tree:
        raw = node.value
        if known is None and raw.startswith("@") and len(raw) > 1:
            return self._saved(raw[1:], node)
        if known is not None and raw == "*" and known.kind not in _TEXTS:
            return Between(known.name, None, None)
        if known is None or known.kind in _TEXTS:
            if raw == "*" and known is None:
                return Everything()
            if _WILD.search(raw):
                return self._like(raw, known or _PROMPT, node)
        elif _WILD.search(raw):
            said = f"{known.name} is a number, which takes no wildcards"
            raise fault(self.text, self._at(node), said, hint="ask for a range: [512 TO 1024]")
        return self._equal(_plain(raw), known or _PROMPT, node)

    def _like(self, raw: str, known: Field, node: Any) -> Tree:
        pattern = _plain(raw)
        inner = pattern.strip("*?")
        if known.kind is Kind.WORDS and not re.fullmatch(r"[\w*?]*", inner):
            said = "a wildcard stands for part of one word"
            hint = "search for part of a whole prompt with --prompt-like"
            raise fault(self.text, self._at(node), said, hint=hint)
        return Like(known.name, re.sub(r"\*+", "*", pattern))

    def _saved(self, name: str, node: Any) -> Tree:
        text = self.saved(name)
        if text is None:
            said = f"no query is saved as {shortened(name)}"
            hint = "see what there is: rendermill query list"
            raise fault(self.text, self._at(node), said, hint=hint)
        if self.depth >= NESTED_QUERIES:
            raise fault(self.text, self._at(node), "saved queries name each other too deeply")
        return parse(text, now=self.now, saved=self.saved, _depth=self.depth + 1)

    def _equal(self, text: str, known: Field, node: Any) -> Tree:
        if known.kind is Kind.TIME:
            first, after = self._moment(text, node)
            return Between(known.name, first, after, with_high=after == first)
        if known.kind not in _TEXTS:
            value = self._number(text, known, node)
            return Between(known.name, value, value)
        if known.kind is Kind.WORDS and not re.search(r"\w", text):
            raise fault(self.text, self._at(node), f"{shortened(text)} holds no word")
        return Is(known.name, text)

    def _range(self, node: Any, known: Field | None, place: Any = None) -> Tree:
        place = place or node
        if known is None or known.kind in _TEXTS:
            name = known.name if known else "prompt"
            raise fault(self.text, self._at(place), f"{name} is a text, which takes no range")
        low, high = self._border(node.low, place), self._border(node.high, place)
        if known.kind is Kind.TIME:
            return self._times(low, high, node, known, place)
        return Between(
            known.name,
            None if low is None else self._number(low, known, place),
            None if high is None else self._number(high, known, place),
            node.include_low,
            node.include_high,
        )

    def _border(self, node: Any, place: Any) -> str | None:
        """One end of a range; None where it is open."""
        match node:
            case lucene.Word():
                return None if node.value == "*" else _plain(node.value)
            case lucene.Phrase():
                return _plain(node.value[1:-1])
            case lucene.Prohibit(a=lucene.Word()):
                return f"-{_plain(node.a.value)}"
        raise fault(self.text, self._at(place), "a range goes from one value to another")

    def _times(
        self, low: str | None, high: str | None, node: Any, known: Field, place: Any
    ) -> Tree:
        """A day is a stretch: ``>`` begins after it, ``<=`` ends with it."""
        first = last = None
        if low is not None:
            first = self._moment(low, place)[0 if node.include_low else 1]
        if high is not None:
            last = self._moment(high, place)[1 if node.include_high else 0]
        return Between(known.name, first, last, with_high=False)

    def _number(self, text: str, known: Field, node: Any) -> float:
        try:
            return number(text)
        except ValueError as error:
            raise fault(self.text, self._at(node), f"{known.name}: {error}") from None

    def _moment(self, text: str, node: Any) -> tuple[float, float]:
        try:
            return moment(text, self.now)
        except ValueError as error:
            raise fault(self.text, self._at(node), str(error)) from None


_TEXTS: Final = (Kind.WORDS, Kind.VALUE)
_PROMPT: Final = BY_NAME["prompt"]
_QUOTE: Final = 'text with signs goes into quotation marks: "a: b"'


def _plain(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)
