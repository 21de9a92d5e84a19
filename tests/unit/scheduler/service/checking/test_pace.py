"""How fast a check may go."""

from __future__ import annotations

from scheduler.service.checking.pace import Pace
from storage.testing.factories import FakeClock


def paced(rate: float | None) -> tuple[Pace, FakeClock, list[float]]:
    clock, waits = FakeClock(), list[float]()

    def wait(seconds: float) -> None:
        waits.append(round(seconds, 6))
        clock.advance(seconds)

    return Pace(rate, clock=clock, wait=wait), clock, waits


def test_objects_go_through_no_faster_than_allowed() -> None:
    pace, clock, waits = paced(100.0)
    for _ in range(3):
        pace.take(50)
    assert waits == [0.5, 0.5]
    assert clock.now == 1_000_001.0


def test_time_spent_elsewhere_counts() -> None:
    pace, clock, waits = paced(100.0)
    pace.take(50)
    clock.advance(10.0)
    pace.take(50)
    assert waits == []


def test_without_a_rate_nothing_waits() -> None:
    pace, _, waits = paced(None)
    pace.take(10**9)
    pace.take(10**9)
    assert waits == []
