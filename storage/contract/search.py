"""What the catalog is searched for: the fields, and a query as a small tree of them.

Nothing here knows how a query is written or answered. A query parsed from text, one built from
a command's options and one kept under a name are the same tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import msgspec


class Kind(StrEnum):
    """How a field is indexed, and so what may be asked of it."""

    WORDS = "words"  #: a text, by its words
    VALUE = "value"  #: a text as a whole: equality and wildcards
    NUMBER = "number"  #: few different numbers: equality, ranges
    SPREAD = "spread"  #: many different numbers: equality, ranges
    TIME = "time"  #: seconds since the epoch


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One thing an image can be found by."""

    name: str
    kind: Kind
    source: str  #: column of the images table, or ``rendering.KEY``, ``job.name``, ``worker.name``
    aliases: tuple[str, ...] = ()
    sortable: bool = False
    about: str = ""


def _field(name: str, kind: Kind, source: str, *aliases: str, sort: bool = False) -> Field:
    return Field(name=name, kind=kind, source=source, aliases=aliases, sortable=sort)


FIELDS: Final = (
    _field("prompt", Kind.WORDS, "prompt"),
    _field("negative", Kind.WORDS, "negative_prompt", "negative_prompt"),
    _field("job", Kind.VALUE, "job.name"),
    _field("model", Kind.VALUE, "model"),
    _field("revision", Kind.VALUE, "revision"),
    _field("sampler", Kind.VALUE, "scheduler", "scheduler"),
    _field("outcome", Kind.VALUE, "outcome"),
    _field("reason", Kind.VALUE, "reason"),
    _field("worker", Kind.VALUE, "worker.name"),
    _field("device", Kind.VALUE, "rendering.device"),
    _field("mode", Kind.VALUE, "rendering.mode"),
    _field("dtype", Kind.VALUE, "rendering.dtype"),
    _field("weights", Kind.VALUE, "rendering.weights"),
    _field("width", Kind.NUMBER, "width", sort=True),
    _field("height", Kind.NUMBER, "height", sort=True),
    _field("steps", Kind.NUMBER, "num_inference_steps", "num_inference_steps", sort=True),
    _field("cfg", Kind.NUMBER, "guidance_scale", "guidance_scale", "cfg_scale", sort=True),
    _field("seed", Kind.SPREAD, "seed", sort=True),
    _field("item", Kind.SPREAD, "item"),
    _field("row", Kind.SPREAD, "row"),
    _field("line", Kind.SPREAD, "line"),
    _field("image_no", Kind.SPREAD, "image_no"),
    _field("seconds", Kind.SPREAD, "seconds", sort=True),
    _field("bytes", Kind.SPREAD, "bytes", "size", sort=True),
    _field("truncated", Kind.SPREAD, "truncated_tokens", "truncated_tokens"),
    _field("rating", Kind.NUMBER, "rating", sort=True),
    _field("collection", Kind.VALUE, "collections"),
    _field("linked", Kind.VALUE, "is.linked"),
    _field("hidden", Kind.VALUE, "is.hidden"),
    _field("created", Kind.TIME, "created_at", "created_at", "date", sort=True),
)
"""A new column of images is searched once it stands here (and, if `SPREAD`, in the search table).

What was indexed before keeps its old terms until ``rendermill index --again``.
"""

TAG: Final = "tag."
"""Begins the name of a field that is a tag: ``tag.Category``."""

BY_NAME: Final = {name: one for one in FIELDS for name in (one.name, *one.aliases)}


def field_of(name: str) -> Field | None:
    """The field of that name or alias, whatever its case; tags are fields too."""
    folded = name.casefold()
    if folded.startswith(TAG) and len(folded) > len(TAG):
        return Field(name=folded, kind=Kind.VALUE, source="tags")
    return BY_NAME.get(folded)


class Node(msgspec.Struct, frozen=True, tag=True):
    """A part of a query."""


class Everything(Node, frozen=True, tag=True):
    """All images."""


class Is(Node, frozen=True, tag=True):
    """The field is this text; of words, these in a row."""

    field: str
    text: str


class Like(Node, frozen=True, tag=True):
    """A word or value that fits a pattern: ``*`` is any run of letters, ``?`` any one."""

    field: str
    pattern: str


class PromptLike(Node, frozen=True, tag=True):
    """The whole prompt fits SQL's pattern, whatever the case."""

    pattern: str


class Between(Node, frozen=True, tag=True):
    """A number in a range; None: no border there."""

    field: str
    low: float | None
    high: float | None
    with_low: bool = True
    with_high: bool = True


class And(Node, frozen=True, tag=True):
    """All of these hold."""

    parts: tuple[Tree, ...]


class Or(Node, frozen=True, tag=True):
    """One of these holds."""

    parts: tuple[Tree, ...]


class Not(Node, frozen=True, tag=True):
    """This does not hold."""

    part: Tree


Tree = Everything | Is | Like | PromptLike | Between | And | Or | Not


def both(*parts: Tree) -> Tree:
    """All of the parts, as one tree without needless layers."""
    flat = tuple(_flat(parts))
    if not flat:
        return Everything()
    return flat[0] if len(flat) == 1 else And(flat)


def _flat(parts: tuple[Tree, ...]) -> Iterator[Tree]:
    for part in parts:
        if isinstance(part, And):
            yield from part.parts
        elif not isinstance(part, Everything):
            yield part
