from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.rest import MINUTES, asleep, note_of, parsed

TIMES = st.integers(0, MINUTES - 1)


def text(begin: int, end: int) -> str:
    return "-".join(f"{at // 60:02d}:{at % 60:02d}" for at in (begin, end))


@pytest.mark.parametrize(
    ("schedule", "hour", "sleeps"),
    [
        ("22:00-06:00", 23, True),
        ("22:00-06:00", 5, True),
        ("22:00-06:00", 6, False),
        ("22:00-06:00", 12, False),
        ("09:00-17:00", 9, True),
        ("09:00-17:00", 17, False),
        ("00:00-00:00", 3, True),
    ],
)
def test_a_worker_sleeps_in_its_hours_also_past_midnight(
    schedule: str, hour: int, sleeps: bool
) -> None:
    assert asleep(schedule, hour * 60) is sleeps


@given(TIMES, TIMES, TIMES)
def test_hours_and_their_opposite_share_the_day(begin: int, end: int, minute: int) -> None:
    if begin != end:
        assert asleep(text(begin, end), minute) != asleep(text(end, begin), minute)


@given(TIMES, TIMES)
def test_what_is_written_is_what_is_read(begin: int, end: int) -> None:
    assert parsed(text(begin, end)) == (begin, end)


@pytest.mark.parametrize(
    "schedule", ["", "22:00", "22-6", "22:00-24:00", "22:60-06:00", "aa:bb-cc:dd"]
)
def test_other_texts_are_refused(schedule: str) -> None:
    with pytest.raises(ValueError, match=r"is no|invalid literal"):
        asleep(schedule, 0)


def test_the_note_tells_when_it_wakes() -> None:
    assert note_of("22:00-06:00") == "asleep until 06:00"
