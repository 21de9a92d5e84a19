"""How the columns of a row map to fields and tags. Worked out once per set of columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any, Final

from scheduler.manifest.fields import FIELDS, KIND, TAG_PREFIX, field_named
from scheduler.manifest.problems import FieldError
from scheduler.manifest.readers.base import Values

PICTURE_FIELDS: Final[tuple[str, ...]] = (
    "image",
    "mask_image",
    "control_images",
    "ip_adapter_image",
)
GROUP_FIELDS: Final = tuple(field.name for field in FIELDS.values() if field.of_group)
TAGS: Final = "tags"
FACTS: Final = "rendermill"
"""What an export says of a row's image (``rendermill``, ``rendermill.sha256``): passed over."""

#: Stands in for a column that the row does not have.
ABSENT: Final = None


class Columns:
    """One set of columns: which fields they give, and which tags.

    `group_values(row)` is a tuple in the order of `group_fields`, ready to be a dictionary's
    key: rows of a manifest mostly repeat their settings, so what was checked once for that
    tuple need not be checked again.
    """

    def __init__(self, names: Iterable[str]) -> None:
        """Raises `FieldError` for a column that is nearly a field, or one named twice."""
        by_field: dict[str, str] = {}
        by_tag: dict[str, str] = {}
        self.has_tags_object = False
        for name in names:
            if name == TAGS:
                self.has_tags_object = True
            elif name.partition(".")[0] == FACTS:
                continue
            elif not name.strip():
                raise FieldError(None, "has a column without a name")
            elif name.startswith(TAG_PREFIX) and len(name) > len(TAG_PREFIX):
                _take(by_tag, name.removeprefix(TAG_PREFIX), name)
            elif (field := field_named(name)) is None:
                _take(by_tag, name, name)
            else:
                _take(by_field, field.name, name)
        self.by_field = by_field
        self.tags = list(by_tag.items())  #: (tag, column)
        self.pictures: list[tuple[str, str]] = [
            (name, by_field[name]) for name in PICTURE_FIELDS if name in by_field
        ]
        self.kind = by_field.get(KIND)
        self.group_fields = tuple(name for name in GROUP_FIELDS if name in by_field)
        self.group_values = _getter([by_field[name] for name in self.group_fields])


def _take(taken: dict[str, str], meant: str, column: str) -> None:
    if meant in taken:
        raise FieldError(column, f"and {taken[meant]!r} both name {meant}; remove one")
    taken[meant] = column


def _getter(columns: list[str]) -> Callable[[Values], tuple[Any, ...]]:
    if not columns:
        return lambda _row: ()
    if len(columns) == 1:
        only = columns[0]
        return lambda row: (row[only],)
    get: Callable[[Values], tuple[Any, ...]] = itemgetter(*columns)
    return get
