"""Sweeps: axes of values, zipped inside an axis, multiplied across axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from scheduler.manifest.fields import field_named, parse_field
from scheduler.manifest.limits import Limits, exceeded
from scheduler.manifest.problems import FieldError

Combination = Mapping[str, Any]


def combinations(axes: Sequence[Mapping[str, Any]], limits: Limits) -> list[Combination]:
    """Every combination of the axes' values, the first axis changing least.

    An axis maps fields to lists of equal length; ``{width: [512, 768], height: [768, 512]}``
    has two steps. Raises `FieldError`, with ``sweep`` and the axis' number as the field.
    """
    steps = [_steps(axis, number, limits) for number, axis in enumerate(axes, 1)]
    seen: set[str] = set()
    for number, axis in enumerate(steps, 1):
        twice = seen & axis[0].keys()
        if twice:
            raise FieldError(f"sweep.{number}", f"{', '.join(sorted(twice))} is swept twice")
        seen |= axis[0].keys()
    count = math.prod(len(axis) for axis in steps)
    if count > limits.max_images_per_row:
        said = f"has {count:,} combinations"
        raise FieldError("sweep", exceeded(said, limits.max_images_per_row, "max_images_per_row"))
    return [
        {name: value for step in chosen for name, value in step.items()}
        for chosen in itertools.product(*steps)
    ]


def _steps(axis: Mapping[str, Any], number: int, limits: Limits) -> list[dict[str, Any]]:
    place = f"sweep.{number}"
    columns: dict[str, list[Any]] = {}
    for name, values in axis.items():
        field = field_named(name)
        if field is None or field.name == "num_images":
            raise FieldError(f"{place}.{name}", "is no field that can be swept")
        if not isinstance(values, list) or not values:
            raise FieldError(f"{place}.{name}", "must be a list of values")
        if field.name in columns:
            raise FieldError(f"{place}.{name}", f"names {field.name} a second time")
        columns[field.name] = [_parsed(place, name, field, value, limits) for value in values]
    if not columns:
        raise FieldError(place, "names no field")
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        said = ", ".join(f"{name} has {len(values)}" for name, values in columns.items())
        raise FieldError(
            place, f"fields of one axis are zipped and need equally many values: {said}"
        )
    return [dict(zip(columns, step, strict=True)) for step in zip(*columns.values(), strict=True)]


def _parsed(place: str, name: str, field: Any, value: object, limits: Limits) -> Any:
    try:
        return parse_field(field, value, limits)
    except FieldError as error:
        raise FieldError(f"{place}.{name}", error.message) from None
