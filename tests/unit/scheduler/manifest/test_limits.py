"""Limits on what a manifest may ask for."""

from __future__ import annotations

import dataclasses

import pytest

from scheduler.manifest.limits import Limits, exceeded
from scheduler.settings import read_limits


def test_a_passed_limit_names_itself_and_its_setting() -> None:
    assert exceeded("is 9,000", 8192, "max_side") == (
        "is 9,000; the limit is 8,192 (RENDERMILL_MAX_SIDE)"
    )


@pytest.mark.parametrize("field", dataclasses.fields(Limits), ids=lambda field: str(field.name))
def test_every_limit_can_be_set_by_the_name_its_error_gives(
    field: dataclasses.Field[int],
) -> None:
    named = exceeded("is much", 1, field.name).partition("(")[2].rstrip(")")
    assert getattr(read_limits({named: "7"}), field.name) == 7
