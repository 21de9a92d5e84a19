"""The terms an image is found by, as (field, value, number), and how a text becomes words.

Every word of a prompt and every value of a field is one term; of numbers that hardly ever
repeat, the bucket they lie in is. A bucket of a `SPREAD` field is a thirty-second of an octave,
of a `TIME` field a day: fine enough to narrow a search down, few enough to be counted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from storage.contract.search import FIELDS, TAG, Kind
from storage.db.images import ImageRow

Term = tuple[str, str, float | None]
"""Field, value and number of a term; the number only where there is one."""

LONGEST: Final = 100
"""Characters of a word or value that are told apart."""

BUCKETS_PER_OCTAVE: Final = 32
DAY: Final = 86_400.0

_WORD = re.compile(r"\w+")
_JSON = msgspec.json.Decoder()


def words_of(text: str) -> list[str]:
    """The words of a text in order: runs of letters, digits and ``_``, whatever the case."""
    return [word[:LONGEST] for word in _WORD.findall(text.casefold())]


def value_of(text: str) -> str:
    """A value as it is compared."""
    return text.casefold()[:LONGEST].replace("\x00", "")


def bucket_of(kind: Kind, number: float) -> int:
    """The bucket a number lies in; larger numbers never lie in smaller buckets."""
    if kind is Kind.TIME:
        return math.floor(number / DAY)
    if number < 0:
        return -1
    return math.floor(math.log2(1.0 + number) * BUCKETS_PER_OCTAVE)


def bucket_field(name: str) -> str:
    """The name under which the buckets of a field are kept."""
    return f"{name}~"


class Names(msgspec.Struct, frozen=True):
    """What rows of images say by number only."""

    jobs: dict[int, str]
    workers: dict[int, str]


def texts_of(row: ImageRow) -> tuple[list[Term], list[Term]]:
    """The words of prompt and negative prompt, in order."""
    return _words("prompt", row.prompt), _words("negative", row.negative_prompt)


def facts_of(row: ImageRow, names: Names) -> list[Term]:
    """All other terms, each once."""
    return [*settled_facts(row, names), *spread_facts(row)]


def settled_facts(row: ImageRow, names: Names) -> list[Term]:
    """The terms of values that many images share, tags included."""
    rendering = _decoded(row.rendering) if row.rendering else {}
    found: dict[Term, None] = {}
    for name, kind, source in _SETTLED:
        value = _value(row, source, names, rendering)
        if value is not None and value != "":
            found[_fact(name, kind, value)] = None
    if row.collections:
        for member in _JSON.decode(row.collections):
            found["collection", value_of(member), None] = None
    if row.tags != "{}":
        for key, text in _JSON.decode(row.tags).items():
            found[(value_of(f"{TAG}{key}"), value_of(str(text)), None)] = None
    return list(found)


def spread_facts(row: ImageRow) -> list[Term]:
    """The buckets an image lies in."""
    return [
        _bucket(name, bucket_of(kind, value))
        for name, kind, source in _SPREAD
        if (value := getattr(row, source)) is not None
    ]


_SPREAD_KINDS: Final = (Kind.SPREAD, Kind.TIME)
_SETTLED: Final = [
    (one.name, one.kind, one.source)
    for one in FIELDS
    if one.kind is not Kind.WORDS and one.kind not in _SPREAD_KINDS
]
_SPREAD: Final = [(one.name, one.kind, one.source) for one in FIELDS if one.kind in _SPREAD_KINDS]


def _words(field: str, text: str) -> list[Term]:
    return [(field, word, None) for word in words_of(text)]


IS: Final = {"is.linked": "linked_job", "is.hidden": "hidden_at"}
"""Columns of which only is searched whether they hold anything."""


def _value(row: ImageRow, source: str, names: Names, rendering: dict[str, Any]) -> Any:
    if source == "job.name":
        return names.jobs.get(row.job_id)
    if source == "worker.name":
        return names.workers.get(row.worker_id)
    if source in IS:
        return "true" if getattr(row, IS[source]) is not None else None
    if source == "collections":  # several, each a term
        return None
    if source.startswith("rendering."):
        return rendering.get(source.partition(".")[2])
    return getattr(row, source, None)


@lru_cache(maxsize=4096)
def _fact(name: str, kind: Kind, value: Any) -> Term:
    if kind is Kind.VALUE:
        return name, value_of(str(value)), None
    return name, f"{float(value):.12g}", float(value)


@lru_cache(maxsize=65536)
def _bucket(name: str, bucket: int) -> Term:
    return bucket_field(name), str(bucket), float(bucket)


@lru_cache(maxsize=1024)
def _decoded(text: str) -> dict[str, Any]:
    found = _JSON.decode(text)
    return found if isinstance(found, dict) else {}


# --- Terms as the two databases keep them -------------------------------------------------------

BLOCKS: Final = (("a", 14), ("b", 17), ("c", 20))
"""PostgreSQL's index knows no order: so an image also has terms for the blocks of catalog numbers
it lies in, by which a search is held to one end of it. Letter, and size as a power of 2."""

SMALLEST: Final = BLOCKS[0][1]


def covering(first: int, last: int) -> list[str]:
    """The fewest blocks that hold all catalog numbers from `first` to `last`, and few others."""
    found = []
    at = first >> SMALLEST << SMALLEST
    while at <= last:
        letter, power = next(
            (letter, power)
            for letter, power in reversed(BLOCKS)
            if power == SMALLEST or (at % (1 << power) == 0 and at + (1 << power) - 1 <= last)
        )
        found.append(f"{letter}{at >> power}")
        at += 1 << power
    return found


def as_vector(number: int, words: Sequence[int], facts: Sequence[int]) -> str:
    """The text of a tsvector: words with their places, facts and blocks without."""
    places: dict[int, list[int]] = {}
    for place, word in enumerate(words[:16_000], 1):
        places.setdefault(word, []).append(place)
    parts = [f"{word}:{','.join(map(str, some[:200]))}" for word, some in places.items()]
    parts += map(str, facts)
    parts += [f"{letter}{number >> power}" for letter, power in BLOCKS]
    return " ".join(parts)


def as_text(words: Sequence[int], facts: Sequence[int]) -> str:
    """The text FTS5 indexes: numbers of terms, words in their order first."""
    return f" {' '.join(map(str, _all(words, facts)))} "


def _all(words: Sequence[int], facts: Sequence[int]) -> Iterator[int]:
    yield from words
    yield from facts
