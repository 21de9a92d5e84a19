"""How the fleet would share out the open work if images were sand.

The plan says how many workers of each kind should have which model, so that all work ends
together. A worker that must load something looks where most are missing; so a fleet spreads
over the models at once, whoever comes first, and hardly anybody loads twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

MAX_UNITS: Final = 40
"""With more models than this at once there is no planning, only taking turns."""

_HALVINGS: Final = 12


class Unit:
    """All open work of one model: what it costs each part of the fleet to do it all alone."""

    __slots__ = ("costs", "model")

    def __init__(self, model: str, costs: list[float]) -> None:
        self.model = model
        self.costs = costs  #: seconds of one worker, by part; infinite: cannot

    def add(self, costs: Sequence[float]) -> None:
        """Count in other work of the model; a part that cannot do it all counts with what it can.

        Infinite only where nothing of it can be done.
        """
        self.costs = [
            known if more == math.inf else more if known == math.inf else known + more
            for known, more in zip(self.costs, costs, strict=True)
        ]


class Plan:
    """Workers wanted by part and model, and in how many seconds that would end it all."""

    __slots__ = ("seconds", "wanted")

    def __init__(self, seconds: float, wanted: dict[str, list[float]]) -> None:
        self.seconds = seconds
        self.wanted = wanted


def plan(units: list[Unit], counts: Sequence[int]) -> Plan | None:
    """Share `counts` workers by part over the units; None if there is nothing to share out.

    Most constrained units take first, from the least capable parts that can do them: what a
    large card alone can do keeps the large cards.
    """
    able = [unit for unit in units if _speed(unit, counts) > 0]
    if not able or len(able) > MAX_UNITS:
        return None
    able.sort(key=lambda unit: (_speed_share(unit, counts), unit.model))
    # A part that can do fewer of the units is the less capable one.
    reach = [sum(unit.costs[part] < math.inf for unit in able) for part in range(len(counts))]
    order = sorted(range(len(counts)), key=lambda part: (reach[part], part))
    low = max(1 / _speed(unit, counts) for unit in able)
    # One after the other would do, if all units could use all parts alike; so it mostly does.
    high = sum(1 / _speed(unit, counts) for unit in able) * (1 + 1e-9)
    while (best := _share_out(able, counts, order, high)) is None:
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = _share_out(able, counts, order, middle)
        if found is None:
            low = middle
        else:
            high, best = middle, found
        if high - low < 0.002 * high:
            break
    return Plan(high, best)


def _share_out(
    units: list[Unit], counts: Sequence[int], order: list[int], seconds: float
) -> dict[str, list[float]] | None:
    """Workers by unit and part with which all units end within `seconds`, if that can be."""
    left = [float(count) for count in counts]
    wanted: dict[str, list[float]] = {}
    for unit in units:
        row = [0.0] * len(left)
        undone = 1.0  # of the unit as a whole
        for part in order:
            each = seconds / unit.costs[part]  # what one worker gets done of it
            if each <= 0 or left[part] <= 0:
                continue
            taken = min(left[part], undone / each)
            row[part] = taken
            left[part] -= taken
            undone -= taken * each
            if undone <= 1e-9:
                break
        else:
            return None
        wanted[unit.model] = row
    return wanted


def _speed(unit: Unit, counts: Sequence[int]) -> float:
    """Units a second if all that can do it did nothing else."""
    return sum(count / cost for count, cost in zip(counts, unit.costs, strict=True))


def _speed_share(unit: Unit, counts: Sequence[int]) -> float:
    """How much of the fleet can do it, by number of workers."""
    return sum(
        count for count, cost in zip(counts, unit.costs, strict=True) if cost < math.inf
    ) / max(1, sum(counts))
