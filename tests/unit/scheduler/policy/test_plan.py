"""Sharing a fleet out over models."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.policy.plan import MAX_UNITS, Plan, Unit, plan

COST = st.floats(1.0, 1e6) | st.just(math.inf)


@st.composite
def fleets(draw: st.DrawFn) -> tuple[list[Unit], list[int]]:
    counts = draw(st.lists(st.integers(1, 50), min_size=1, max_size=5))
    costs = st.lists(COST, min_size=len(counts), max_size=len(counts))
    units = [Unit(f"m{n}", draw(costs)) for n in range(draw(st.integers(1, 5)))]
    return units, counts


def done_share(unit: Unit, found: Plan) -> float:
    """How much of the unit its workers get done in the plan's time."""
    wanted = found.wanted[unit.model]
    return sum(
        workers * found.seconds / cost for workers, cost in zip(wanted, unit.costs, strict=True)
    )


@given(fleets())
def test_a_plan_gets_everything_done_that_can_be_with_the_workers_there_are(
    case: tuple[list[Unit], list[int]],
) -> None:
    units, counts = case
    possible = [unit for unit in units if any(cost < math.inf for cost in unit.costs)]
    found = plan(units, counts)
    assert (found is not None) is bool(possible)
    if found is not None:
        for unit in possible:
            assert done_share(unit, found) >= 1 - 1e-6
        for part, count in enumerate(counts):
            assert sum(row[part] for row in found.wanted.values()) <= count * (1 + 1e-9)


@given(fleets())
def test_no_plan_is_faster_than_its_slowest_unit_with_the_whole_fleet(
    case: tuple[list[Unit], list[int]],
) -> None:
    units, counts = case
    found = plan(units, counts)
    if found is not None:
        for unit in units:
            speed = sum(count / cost for count, cost in zip(counts, unit.costs, strict=True))
            assert speed == 0 or found.seconds >= 1 / speed * 0.999


def test_nested_needs_are_shared_out_within_a_percent_of_the_fluid_bound() -> None:
    # Each model needs more than the one before; 16, 12, 8, 8 and 4 workers of five sizes.
    counts, speeds = [16, 12, 8, 8, 4], [0.2, 0.3, 0.5, 0.75, 1.0]
    works = [750.0, 1000.0, 1250.0, 1500.0]
    units = [
        Unit(f"m{n}", [math.inf if part < n else work / speeds[part] for part in range(5)])
        for n, work in enumerate(works)
    ]
    strength = [count * speed for count, speed in zip(counts, speeds, strict=True)]
    bound = max(sum(works[n:]) / sum(strength[n:]) for n in range(4))
    found = plan(units, counts)
    assert found is not None
    assert found.seconds == pytest.approx(bound, rel=0.01)


def test_the_most_constrained_keeps_the_few_that_can_do_it() -> None:
    found = plan([Unit("any", [100.0, 100.0]), Unit("huge", [math.inf, 100.0])], [3, 1])
    assert found is not None
    assert found.wanted["huge"][1] > found.wanted["any"][1]


def test_the_sizes_of_one_model_are_one_unit() -> None:
    unit = Unit("a", [10.0, math.inf, math.inf])
    unit.add([5.0, 7.0, math.inf])
    assert unit.costs == [15.0, 7.0, math.inf]


def test_with_too_many_models_at_once_there_is_no_plan() -> None:
    units = [Unit(f"m{n}", [1.0]) for n in range(MAX_UNITS + 1)]
    assert plan(units, [1]) is None
    assert plan(units[1:], [1]) is not None
