"""The policy's figures: scenarios whose numbers must not get worse.

The limits stand in the scenario files; `tests/benchmarks/SIMULATIONS.md` has all the numbers.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from scheduler.simulate.outcome import Summary, summary
from scheduler.simulate.run import simulate
from scheduler.simulate.scenario import Expect, read_scenario

SCENARIOS = Path(__file__).parents[4] / "examples" / "scenarios"

SEEDS = {
    "mixed-2k": 10,
    "mixed-20k": 3,
    "mixed-100k": 1,
    "rough-2k": 10,
    "rough-20k": 5,
    "rough-100k": 3,
    "four-jobs-20k": 2,
}


def measured(name: str) -> tuple[Summary, Expect]:
    scenario = read_scenario(SCENARIOS / f"{name}.yaml")
    runs = [simulate(scenario, seed) for seed in range(1, SEEDS[name] + 1)]
    return summary(scenario.name, runs), scenario.expect


@pytest.mark.parametrize("name", SEEDS)
def test_a_scenario_is_no_worse_than_its_limits(name: str) -> None:
    found, expect = measured(name)
    assert not found.stalled
    assert found.ratio >= 1
    assert expect.makespan is not None
    assert found.ratio <= expect.makespan
    assert expect.loads is not None
    assert found.loads_per_worker <= expect.loads
    assert found.ticket_wait < 2


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("mixed-2k", 1.08),
        ("mixed-20k", 1.03),
        ("mixed-100k", 1.01),
        ("rough-2k", 1.25),
        ("rough-20k", 1.05),
        ("rough-100k", 1.02),
    ],
)
def test_the_limits_themselves_are_not_loosened(name: str, limit: float) -> None:
    expect = read_scenario(SCENARIOS / f"{name}.yaml").expect
    assert expect.makespan == limit
    assert expect.loads == 1.5
