"""The bound that no schedule can beat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from scheduler.simulate.bound import fluid_bound

Make = Callable[..., Any]

TWO_SIZES = {
    "models": {
        "any": {"gib": {"resident": 6}, "seconds": 1.0, "load_seconds": 10},
        "huge": {"gib": {"resident": 20}, "seconds": 2.0, "load_seconds": 30},
    },
    "workers": [
        {"kind": "small", "count": 3, "vram_gib": 8, "speed": 1.0},
        {"kind": "large", "count": 1, "vram_gib": 24, "speed": 2.0},
    ],
}
SPEEDS = {"small": 3.0, "large": 2.0}


def jobs(any_items: int, huge_items: int) -> list[dict[str, Any]]:
    groups = [{"model": "any", "items": any_items}, {"model": "huge", "items": huge_items}]
    return [{"name": "one", "groups": groups}]


def test_it_is_the_work_by_the_speed_and_one_load(scenario: Make) -> None:
    assert fluid_bound(scenario(), {"card": 4.0}) == 200 / 4 + 10


@pytest.mark.parametrize(
    ("any_items", "huge_items", "seconds"),
    [(100, 100, 10 + 200 / 2), (1000, 100, 10 + 1200 / 5), (1, 1000, 10 + 2000 / 2)],
)
def test_work_that_few_can_do_is_bound_by_those_few(
    scenario: Make, any_items: int, huge_items: int, seconds: float
) -> None:
    described = scenario(**TWO_SIZES, jobs=jobs(any_items, huge_items))
    assert fluid_bound(described, SPEEDS) == pytest.approx(seconds)


def test_slow_workers_count_as_slow_as_they_are(scenario: Make) -> None:
    assert fluid_bound(scenario(), {"card": 2.0}) == 200 / 2 + 10


def test_work_that_comes_late_counts_from_then(scenario: Make) -> None:
    late = [
        {"name": "early", "at": 100, "groups": [{"model": "a", "items": 4}]},
        {"name": "late", "at": 1100, "groups": [{"model": "a", "items": 40}]},
    ]
    assert fluid_bound(scenario(jobs=late), {"card": 4.0}) == 1000 + 10 + 10


def test_with_many_models_thresholds_do(scenario: Make) -> None:
    models = {
        f"m{gib}": {"gib": {"resident": gib}, "seconds": 1.0, "load_seconds": 5}
        for gib in range(1, 13)
    }
    groups = [{"model": name, "items": 10} for name in models]
    workers = [
        {"kind": "small", "count": 1, "vram_gib": 6},
        {"kind": "large", "count": 1, "vram_gib": 12},
    ]
    described = scenario(models=models, workers=workers, jobs=[{"name": "j", "groups": groups}])
    # Six models fit both, six the large one alone; together they take as long.
    assert fluid_bound(described, {"small": 1.0, "large": 0.5}) == 5 + 60 / 0.5
