"""Tags: columns of a manifest that are no fields, as text."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, time
from decimal import Decimal

from scheduler.manifest.columns import TAGS
from scheduler.manifest.limits import Limits, exceeded
from scheduler.manifest.problems import FieldError
from scheduler.manifest.values import shown


def tag_text(tag: str, value: object) -> str:
    """The value of a tag as text; `FieldError` if it can be none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return _digits(tag, value)
    if isinstance(value, str | Decimal):
        return str(value)
    if isinstance(value, date | time):
        return value.isoformat()
    raise FieldError(tag, f"is a tag and must be text or a number, not {type(value).__name__}")


def _digits(tag: str, number: int | float) -> str:
    try:
        return repr(number)
    except ValueError:  # Python refuses to write out integers of thousands of digits
        raise FieldError(tag, f"is a tag, and {shown(number)}") from None


def check_tags(tags: Mapping[str, str], limits: Limits) -> None:
    """Refuse tags that are too many, too long or cannot be written down."""
    if len(tags) > limits.max_tags:
        raise FieldError(TAGS, exceeded(f"has {len(tags)} tags", limits.max_tags, "max_tags"))
    for tag, value in tags.items():
        if len(value) > limits.max_tag_chars:
            said = f"is {len(value):,} characters long"
            raise FieldError(tag, exceeded(said, limits.max_tag_chars, "max_tag_chars"))
        if "\0" in value or "\0" in tag:
            raise FieldError(tag, "holds a NUL character")
