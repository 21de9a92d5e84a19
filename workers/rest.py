"""Hours of rest: when a worker claims nothing, by its own machine's clock."""

from __future__ import annotations

from typing import Final

MINUTES: Final = 24 * 60
ASLEEP: Final = "asleep until "
"""Begins the note of a worker that rests by its schedule, and not because somebody drained it."""


def asleep(schedule: str, minute: int) -> bool:
    """Whether `minute` of the day lies in hours like "22:00-06:00", which may span midnight.

    Equal ends mean the whole day. Raises `ValueError` for what is no such text.
    """
    begin, end = parsed(schedule)
    if begin == end:
        return True
    return (minute - begin) % MINUTES < (end - begin) % MINUTES


def note_of(schedule: str) -> str:
    """What is said of a worker that rests by this schedule."""
    return ASLEEP + schedule.partition("-")[2]


def parsed(schedule: str) -> tuple[int, int]:
    """Both ends as minutes of the day."""
    begin, dash, end = schedule.partition("-")
    if not dash:
        raise ValueError(f"{schedule!r} is not like 22:00-06:00")
    return _minute(begin), _minute(end)


def _minute(text: str) -> int:
    hours, _, minutes = text.partition(":")
    if not (len(hours) == len(minutes) == 2 and (hours + minutes).isascii()):
        raise ValueError(f"{text!r} is not like 22:00")
    found = int(hours), int(minutes)
    if not (0 <= found[0] < 24 and 0 <= found[1] < 60):
        raise ValueError(f"{text!r} is no time of the day")
    return found[0] * 60 + found[1]
