"""From a query to what the databases are asked: terms that narrow down, and conditions that decide.

A plan is a small tree again. Its leaves are terms by their numbers in the vocabulary, with the
share of images that have them, or conditions on columns of the search table. `drive` is what
the index can answer of it, never less than the truth; `condition` is the truth.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.contract.errors import QueryError
from storage.contract.search import (
    And,
    Between,
    Everything,
    Field,
    Is,
    Kind,
    Like,
    Not,
    Or,
    PromptLike,
    Tree,
    field_of,
)
from storage.db.search_index import ALL
from storage.db.search_terms import LONGEST, bucket_field, bucket_of, value_of, words_of
from storage.db.tables import search, search_words

MOST_TERMS: Final = 2_000
"""Words a pattern may stand for in the index; what fits more is compared row by row."""

BROAD_TERMS: Final = 100
BROAD_SHARE: Final = 0.01

USELESS_SHARE: Final = 0.5
"""A range that holds most images narrows nothing down."""

_WORDS = search_words.c


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """Images with one of these words."""

    ids: tuple[int, ...]
    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Phrase:
    """Images with these words in a row."""

    ids: tuple[int, ...]
    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """Images whose row meets a condition; `drive` holds all of them, and more."""

    condition: sa.ColumnElement[bool]
    share: float
    drive: Plan | None = None
    few: bool = False  #: an index of its own column finds all of them at once
    ordered: bool = False  #: that index gives them in the order of catalog numbers
    numbers: tuple[int, int] | None = None  #: where most of them lie among catalog numbers


@dataclass(frozen=True, kw_only=True, slots=True)
class AllOf:
    """Images that are in all parts; of none, all images."""

    parts: tuple[Plan, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class OneOf:
    """Images that are in one of the parts; of none, no image."""

    parts: tuple[Plan, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Without:
    """Images that are not in a part."""

    part: Plan


Plan = Terms | Phrase | Check | AllOf | OneOf | Without
EVERYTHING: Final = AllOf(parts=())
NOTHING: Final = OneOf(parts=())


def share_of(plan: Plan) -> float:
    """The share of images a plan is expected to hold, from 0 to 1."""
    match plan:
        case AllOf(parts=parts):
            share = 1.0
            for part in parts:
                share *= share_of(part)
            return share
        case OneOf(parts=parts):
            rest = 1.0
            for part in parts:
                rest *= 1.0 - share_of(part)
            return 1.0 - rest
        case Without(part=part):
            return 1.0 - share_of(part)
        case _:
            return min(1.0, plan.share)


def likely_of(plan: Plan) -> float:
    """The share of images expected where conditions tend to go together, as they do.

    Failures of a kind are all failures: multiplying shares makes such a search read a hundred
    times what it needs, and looking once more costs little. The rarest counts in full, the next
    by its fourth root, each further one by a root of that.
    """
    if not isinstance(plan, AllOf):
        return share_of(plan)
    share, weight = 1.0, 1.0
    for one in sorted(map(share_of, plan.parts)):
        share *= one**weight
        weight = weight / 2 if weight < 1.0 else 0.25
    return share


def is_exact(plan: Plan) -> bool:
    """Whether the index of terms alone decides it."""
    match plan:
        case AllOf(parts=parts) | OneOf(parts=parts):
            return all(is_exact(part) for part in parts)
        case Without(part=part):
            return is_exact(part)
        case Check():
            return False
        case _:
            return True


def drive_of(plan: Plan) -> Plan | None:
    """What the index of terms can say of it: all its images and maybe more; None: nothing."""
    match plan:
        case AllOf(parts=parts):
            driven = tuple(one for one in map(drive_of, parts) if one is not None)
            return AllOf(parts=driven) if any(not isinstance(d, Without) for d in driven) else None
        case OneOf(parts=parts):
            driven = tuple(one for one in map(drive_of, parts) if one is not None)
            whole = len(driven) == len(parts) and not any(isinstance(d, Without) for d in driven)
            return OneOf(parts=driven) if whole else None
        case Without(part=part):
            return plan if is_exact(part) and _positive(part) else None
        case Check(drive=drive):
            return drive
        case _:
            return plan


def _positive(plan: Plan) -> bool:
    match plan:
        case AllOf(parts=parts) | OneOf(parts=parts):
            return bool(parts) and all(_positive(part) for part in parts)
        case Without():
            return False
        case _:
            return True


def rest_of(plan: Plan) -> Plan:
    """What remains to be checked of what `drive_of` holds."""
    parts = plan.parts if isinstance(plan, AllOf) else (plan,)
    return AllOf(
        parts=tuple(one for one in parts if not (is_exact(one) and drive_of(one) is not None))
    )


@dataclass
class Planner:
    """Looks the words of a query up in the vocabulary."""

    connection: Connection
    total: int = field(init=False)
    last: int = field(init=False)  #: the highest catalog number

    def __post_init__(self) -> None:
        """Count all images, while the database still chooses how by itself."""
        found = self._one(*ALL)
        self.total = found[1] if found else 0
        self.last = self.connection.execute(sa.select(sa.func.max(search.c.n))).scalar() or 0

    def whole(self, tree: Tree) -> AllOf:
        """The plan of a whole query."""
        plan = self.plan(tree)
        return plan if isinstance(plan, AllOf) else AllOf(parts=(plan,))

    def plan(self, tree: Tree) -> Plan:  # noqa: PLR0911 - a return a kind
        """The plan of a part of a query."""
        match tree:
            case Everything():
                return EVERYTHING
            case And(parts=parts):
                return AllOf(parts=tuple(_flat(self.plan(part) for part in parts)))
            case Or(parts=parts):
                return OneOf(parts=tuple(self.plan(part) for part in parts))
            case Not(part=part):
                inner = self.plan(part)
                return inner.part if isinstance(inner, Without) else Without(part=inner)
            case Is(field=name, text=text):
                return self._is(_known(name), text)
            case Like(field=name, pattern=pattern):
                return self._like(_known(name), pattern)
            case PromptLike(pattern=pattern):
                return self._prompt_like(pattern)
            case Between():
                return self._between(_known(tree.field), tree)

    def share(self, images: float) -> float:
        """That many images as a share of all."""
        return images / self.total if self.total else 0.0

    def buckets(self, name: str) -> list[sa.Row[Any]]:
        """The values or buckets of a numeric field, with the images in each, in order."""
        return list(
            self.connection.execute(
                sa.select(_WORDS.id, _WORDS.number, _WORDS.images)
                .where(_WORDS.field == name, _WORDS.images > 0, _WORDS.number.is_not(None))
                .order_by(_WORDS.number)
            )
        )

    def _one(self, name: str, value: str) -> tuple[int, int] | None:
        row = self.connection.execute(
            sa.select(_WORDS.id, _WORDS.images).where(_WORDS.field == name, _WORDS.value == value)
        ).first()
        return (row[0], row[1]) if row else None

    def _is(self, known: Field, text: str) -> Plan:
        values = words_of(text) if known.kind is Kind.WORDS else [value_of(text)]
        found = [self._one(known.name, value) for value in values]
        ids = tuple(one[0] for one in found if one is not None)
        if len(ids) < len(values) or not ids:
            return NOTHING
        shares = [self.share(one[1]) for one in found if one is not None]
        if len(ids) == 1:
            return Terms(ids=ids, share=shares[0])
        together = min(shares) * 0.05
        return Phrase(ids=ids, share=together)

    def _like(self, known: Field, pattern: str) -> Plan:
        folded = pattern.casefold()
        if not folded.strip("*?"):
            return self._any_value(known, folded)
        found = self._fitting(known.name, folded)
        is_part = known.name == "prompt" and re.fullmatch(r"\*\w+\*", folded)
        if is_part and (found is None or is_broad(found)):
            share = self._share_fitting(known.name, folded) if found is None else share_of(found)
            inside = search.c.prompt.contains(folded[1:-1], autoescape=True)
            return Check(condition=inside, share=min(1.0, share))
        if found is not None:
            return found
        raise QueryError(
            f"{pattern} fits more than {MOST_TERMS:,} different words of {known.name}",
            hint="add letters",
        )

    def _any_value(self, known: Field, pattern: str) -> Plan:
        if known.kind is Kind.WORDS and pattern == "*":
            return EVERYTHING
        found = self._fitting(known.name, pattern)
        if found is None:
            raise QueryError(f"{known.name}:{pattern} fits nearly everything", hint="leave it out")
        return found

    def _fitting(self, name: str, pattern: str) -> Plan | None:
        """The words that fit a pattern; None: too many."""
        rows = self.connection.execute(
            sa.select(_WORDS.id, _WORDS.images)
            .where(*self._fits(name, pattern), _WORDS.images > 0)
            .limit(MOST_TERMS + 1)
        ).all()
        if len(rows) > MOST_TERMS:
            return None
        return self._terms(rows)

    def _share_fitting(self, name: str, pattern: str) -> float:
        images = self.connection.execute(
            sa.select(sa.func.sum(_WORDS.images)).where(*self._fits(name, pattern))
        ).scalar()
        return self.share(float(images or 0) * 0.8)

    def _fits(self, name: str, pattern: str) -> Iterator[sa.ColumnElement[bool]]:
        """Conditions of the vocabulary; `pattern` is in small letters, with ``*`` and ``?``."""
        yield _WORDS.field == name
        literal = re.match(r"[^*?]*", pattern)
        start = literal.group() if literal else ""
        runs = re.findall(r"[^*?%_\\]{3,}", pattern)
        if self.connection.dialect.name == "sqlite":
            if start:
                yield _WORDS.value >= start
                yield _WORDS.value < start + "\U0010ffff"
            elif runs:  # FTS5's trigrams answer LIKE, without an escape
                loose = "".join("_" if c in "%_\\?" else "%" if c == "*" else c for c in pattern)
                yield _WORDS.id.in_(
                    sa.select(sa.column("rowid"))
                    .select_from(sa.table("search_spellings"))
                    .where(sa.column("value").like(loose))
                )
        yield _WORDS.value.like(as_like(pattern), escape="\\")

    def _terms(self, rows: Sequence[Any]) -> Plan:
        if not rows:
            return NOTHING
        images = sum(row.images for row in rows)
        return Terms(ids=tuple(sorted(row.id for row in rows)), share=self.share(images))

    def _prompt_like(self, pattern: str) -> Plan:
        folded = pattern.casefold().replace("\x00", "")
        drive: list[Plan] = []
        share = 0.3
        for word in words_within(folded):
            found = self._fitting("prompt", word)
            if found is None:
                share = min(share, self._share_fitting("prompt", word))
            else:
                share = min(share, share_of(found))
                if not is_broad(found):
                    drive.append(found)
        return Check(
            condition=search.c.prompt.like(folded, escape="\\"),
            share=share,
            drive=AllOf(parts=tuple(drive)) if drive else None,
        )

    def _between(self, known: Field, asked: Between) -> Plan:
        if known.kind is Kind.NUMBER:
            rows = self.connection.execute(
                sa.select(_WORDS.id, _WORDS.images)
                .where(_WORDS.field == known.name, *_range(_WORDS.number, asked))
                .where(_WORDS.images > 0)
                .limit(MOST_TERMS + 1)
            ).all()
            if len(rows) > MOST_TERMS:
                raise QueryError(
                    f"{known.name} has more than {MOST_TERMS:,} different values in that range",
                    hint="ask for a smaller range",
                )
            return self._terms(rows)
        column = search.c[known.source]
        condition = sa.and_(*(list(_range(column, asked)) or [column.is_not(None)]))
        drive = self._driving(known, asked)
        share = share_of(drive)
        if known.name == "seed" and asked.low is not None and asked.low == asked.high:
            count = self._few(condition)
            if count is not None:
                return Check(condition=condition, share=self.share(count), drive=drive, few=True)
            return Check(condition=condition, share=share, drive=drive, ordered=True)
        useful = drive if share <= USELESS_SHARE and _terms_in(drive) <= MOST_TERMS else None
        numbers = self._numbers(drive) if known.kind is Kind.TIME and useful else None
        return Check(condition=condition, share=share, drive=useful, numbers=numbers)

    def _numbers(self, days: Plan) -> tuple[int, int] | None:
        """About where the images of some days lie: numbers are given as images come in."""
        within = frozenset(days.ids) if isinstance(days, Terms) else frozenset()
        before = passed = 0
        first: int | None = None
        for day in self.buckets(bucket_field("created")):
            if day.id in within:
                first = before if first is None else first
                passed = before + day.images
            before += day.images
        if first is None or not before:
            return None
        numbers = self.last / before  # of images removed since, nobody has the numbers
        return int(first * numbers), int(passed * numbers)

    def _driving(self, known: Field, asked: Between) -> Plan:
        """The buckets that touch a range."""
        buckets = Between(
            known.name,
            None if asked.low is None else bucket_of(known.kind, asked.low),
            None if asked.high is None else bucket_of(known.kind, asked.high),
        )
        return self._terms(
            self.connection.execute(
                sa.select(_WORDS.id, _WORDS.images)
                .where(_WORDS.field == bucket_field(known.name), _WORDS.images > 0)
                .where(*_range(_WORDS.number, buckets))
            ).all()
        )

    def _few(self, condition: sa.ColumnElement[bool]) -> int | None:
        """How many images meet a condition on an indexed column; None: many."""
        some = sa.select(search.c.n).where(condition).limit(MOST_TERMS + 1).subquery("probe")
        found = self.connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one()
        return None if found > MOST_TERMS else found


def as_like(pattern: str) -> str:
    """``*`` and ``?`` as SQL's signs, its own escaped."""
    escaped = re.sub(r"([\\%_])", r"\\\1", pattern)
    return escaped.replace("*", "%").replace("?", "_")


def words_within(like: str) -> Iterator[str]:
    """The words a text must have to fit SQL's pattern, each a pattern with ``*`` and ``?``.

    A word at the edge of a ``%`` may go on beyond it; with ``_`` within it may be two words,
    and is passed over.
    """
    parts = re.split(r"(?<!\\)%", like)
    for place, part in enumerate(parts):
        plain = part.replace("\\%", "%").replace("\\\\", "\\")
        for found in re.finditer(r"\w+", plain):
            word = found.group()
            if "_" in word or len(word) >= LONGEST:
                continue
            open_left = found.start() == 0 and place > 0
            open_right = found.end() == len(plain) and place < len(parts) - 1
            yield f"{'*' if open_left else ''}{word}{'*' if open_right else ''}"


def _range(column: sa.ColumnElement[Any], asked: Between) -> Iterator[sa.ColumnElement[bool]]:
    if asked.low is not None and asked.low == asked.high:  # an index goes on in order behind it
        yield column == _bound(asked.low) if asked.with_low and asked.with_high else sa.false()
        return
    if asked.low is not None:
        low = _bound(asked.low)
        yield column >= low if asked.with_low else column > low
    if asked.high is not None:
        high = _bound(asked.high)
        yield column <= high if asked.with_high else column < high


def _bound(value: float) -> float | int:
    """Whole numbers as such: an index of integers is not searched by a float on PostgreSQL."""
    whole = float(value).is_integer() and abs(value) < 2**63
    return int(value) if whole else value


def is_broad(plan: Plan) -> bool:
    """Whether looking so many words up costs more than walking until enough has them."""
    if isinstance(plan, AllOf):
        return any(map(is_broad, plan.parts))
    return _terms_in(plan) > BROAD_TERMS and share_of(plan) >= BROAD_SHARE


def _terms_in(plan: Plan) -> int:
    return len(plan.ids) if isinstance(plan, Terms) else 0


def _flat(parts: Iterator[Plan]) -> Iterator[Plan]:
    for part in parts:
        if isinstance(part, AllOf):
            yield from part.parts
        else:
            yield part


def _known(name: str) -> Field:
    found = field_of(name)
    if found is None:
        raise QueryError(f"{name} is not a field")
    return found
