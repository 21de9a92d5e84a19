"""Numbers and moments as people write them."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.catalog.values import moment, number

NOW = 1_795_000_000.0
MIDNIGHT = 1_794_960_000.0
DAY = 86_400.0


@pytest.mark.parametrize(
    ("text", "value"),
    [("5", 5), ("-5", -5), ("7.5", 7.5), ("1e3", 1000), ("2k", 2000), ("1.5MB", 1.5e6),
     ("1KiB", 1024), ("3GiB", 3 * 2**30)],
)  # fmt: skip
def test_numbers_may_have_units(text: str, value: float) -> None:
    assert number(text) == value


@pytest.mark.parametrize(
    "text", ["", "x", "1x", "1.2.3", "--1", "nan", "inf", "1e999", "9" * 50, "٣x", "1 2"]
)
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a number|is too large"):
        number(text)


@pytest.mark.parametrize(
    ("text", "first", "after"),
    [
        ("2026-11-18", MIDNIGHT, MIDNIGHT + DAY),
        ("2026-11", MIDNIGHT - 17 * DAY, MIDNIGHT + 13 * DAY),
        ("2026", 1_767_225_600, 1_767_225_600 + 365 * DAY),
        ("2026-11-18T10:30", MIDNIGHT + 37_800, MIDNIGHT + 37_860),
        ("2026-11-18T10:30:05Z", MIDNIGHT + 37_805, MIDNIGHT + 37_806),
        ("today", MIDNIGHT, MIDNIGHT + DAY),
        ("Yesterday", MIDNIGHT - DAY, MIDNIGHT),
        ("now", NOW, NOW),
        ("-7d", NOW - 7 * DAY, NOW - 7 * DAY),
        ("-90m", NOW - 5400, NOW - 5400),
    ],
)
def test_moments_are_stretches_of_time(text: str, first: float, after: float) -> None:
    assert moment(text, NOW) == (first, after)


@pytest.mark.parametrize(
    "text", ["", "11/18/2026", "2026-02-30", "0000", "9999", "-7", "2026-1-1T5"]
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        moment(text, NOW)


@given(st.text(max_size=30))
def test_no_text_breaks_either(text: str) -> None:
    with suppress(ValueError):
        assert abs(number(text)) <= 2.0**62
    with suppress(ValueError):
        first, after = moment(text, NOW)
        assert first <= after
