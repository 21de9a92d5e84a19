"""Small scenarios."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from scheduler.simulate.scenario import Scenario, checked

Make = Callable[..., Any]


@pytest.fixture
def scenario() -> Make:
    """Makes a scenario of one model, four equal cards and one job, but for overrides."""

    def make(**overrides: Any) -> Scenario:
        values: dict[str, Any] = {
            "name": "small",
            "models": {"a": {"gib": {"resident": 6}, "seconds": 1.0, "load_seconds": 10}},
            "workers": [{"kind": "card", "count": 4, "vram_gib": 8}],
            "jobs": [{"name": "one", "groups": [{"model": "a", "items": 200}]}],
            "noise": 0.0,
        }
        return checked(values | overrides, "test")

    return make
