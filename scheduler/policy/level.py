"""All open work of one priority, and what of it would be worth this worker's while."""

from __future__ import annotations

import math
from typing import Final

from scheduler.policy.demand import Fleet, Prospect, Work
from scheduler.policy.plan import Plan, Unit, plan
from storage.contract.claims import OpenGroup

PAYS: Final = 0.25
"""A loading pays if there is at least this much of its time to render for afterwards."""

LEAVE_MARGIN: Final = 1.03
"""A worker leaves its model only for one that would end later by this factor even with it."""

PATIENCE_SECONDS: Final = 30.0
"""How long the rest of a group is kept for others that would end it sooner, at most."""

PATIENCE_BATCHES: Final = 4.0
"""The same in batches of the worker that keeps it: it could have rendered it by then."""

STARVING_SECONDS: Final = 600.0
"""A job of which nothing was claimed for so long goes before a loaded model."""


class Level:
    """Works of one priority; `backlog` holds, by model, the seconds of more urgent work."""

    def __init__(self, works: list[Work], fleet: Fleet, backlog: dict[str, float]) -> None:
        self.fleet = fleet
        self.prospects = [Prospect(work, fleet) for work in works]
        self.mine = [one for one in self.prospects if one.need is not None]
        self.drains = backlog  #: by model: seconds until those that have it are through
        for one in self.prospects:
            needs = one.work.undone / one.serving if one.serving > 0 else math.inf
            backlog[one.model] = backlog.get(one.model, 0.0) + needs
        self._plan: Plan | None = None
        self._planned = False

    @property
    def plan(self) -> Plan | None:
        """How the fleet would share this work; None without a fleet."""
        if not self._planned:
            self._planned = True
            if self.fleet.parts:
                self._plan = plan(self._units(), [part.count for part in self.fleet.parts])
        return self._plan

    def worthwhile(self, one: Prospect, now: float) -> bool:
        """Whether the fleet is through sooner if this worker takes a batch of it."""
        if one.alone or self.fleet.worker.more_groups:
            return True
        drain = self.drains[one.model]
        if drain == math.inf:
            return not self._better_on_gpu(one, now)
        if _passed_over(one, now, drain):
            return True
        if one.loaded:
            return one.batch_seconds <= self._ends_faster(one) and not self._better_on_gpu(one, now)
        joined = self.drain_joined(one)
        return joined - one.load >= max(one.batch_seconds, PAYS * one.load)

    def _ends_faster(self, one: Prospect) -> float:
        """Seconds until those that are faster would have ended a batch that is left to them.

        The slower ones do not count: they leave the end to others, as this one may.
        """
        if one.faster == 0:
            return math.inf
        theirs = one.work.leased * one.faster / one.serving
        last = one.best_other * one.work.kind.batch_size
        return (one.work.claimable + theirs) / one.faster + last

    def drain_joined(self, one: Prospect) -> float:
        """Seconds until the model's work is through if this worker loads it and helps."""
        if one.serving == 0:
            return one.load + one.work.undone * one.own_seconds
        ratio = one.rate / one.serving
        return (self.drains[one.model] + ratio * one.load) / (1 + ratio)

    def drain_left(self, one: Prospect) -> float:
        """Seconds until the model's work is through if this worker leaves it.

        If nobody else has it yet, those that will come by the plan count as if they had.
        """
        if one.serving > 0:
            return self.drains[one.model]
        coming = self.planned_speed(one) - self._planned_of_mine(one) * one.rate
        return one.work.undone / coming if coming > 1e-9 else math.inf

    def planned_speed(self, one: Prospect) -> float:
        """Images a second of those that the plan gives the model to."""
        wanted = self.plan.wanted.get(one.model) if self.plan else None
        if wanted is None:
            return 0.0
        return sum(workers / seconds for workers, seconds in zip(wanted, one.seconds, strict=True))

    def missing(self, one: Prospect) -> float:
        """How many workers of this kind the plan would still give the model."""
        mine = self.fleet.mine
        if mine is None:
            return 0.0
        return self._planned_of_mine(one) - self.fleet.others[mine].get(one.model, 0)

    def _planned_of_mine(self, one: Prospect) -> float:
        mine = self.fleet.mine
        if mine is None or self.plan is None:
            return 0.0
        wanted = self.plan.wanted.get(one.model)
        return wanted[mine] if wanted else 0.0

    def _units(self) -> list[Unit]:
        units: dict[str, Unit] = {}
        for one in self.prospects:
            costs = [one.work.undone * seconds for seconds in one.seconds]
            unit = units.get(one.model)
            if unit is None:
                units[one.model] = Unit(one.model, costs)
            else:
                unit.add(costs)
        return list(units.values())

    def _better_on_gpu(self, one: Prospect, now: float) -> bool:
        """Whether a CPU should leave the rest to a GPU that would end it sooner."""
        if self.fleet.worker.capability.vram_bytes:
            return False
        on_gpus = [
            seconds
            for part, seconds in zip(self.fleet.parts, one.seconds, strict=True)
            if part.vram_bytes
        ]
        best = min(on_gpus, default=math.inf)
        if one.batch_seconds <= one.load + one.work.undone * best:
            return False
        return now - _touched(one) < PATIENCE_SECONDS


def _passed_over(one: Prospect, now: float, drain: float) -> bool:
    """Whether the others should have taken the rest by now, and did not.

    A group that was never claimed tells little: it may only be the last in a long row.
    """
    claimed = [at for group in one.work.groups if (at := group.last_claimed_at) is not None]
    if claimed:
        patience = min(PATIENCE_SECONDS, 1.0 + PATIENCE_BATCHES * one.batch_seconds)
        return now - max(claimed) > drain + patience
    return now - _touched(one) > drain + STARVING_SECONDS


def _touched(one: Prospect) -> float:
    return max(last_touched(group) for group in one.work.heads.values())


def last_touched(group: OpenGroup) -> float:
    """When something of it was last claimed, or else when it was submitted; 0: not known."""
    return group.last_claimed_at or group.submitted_at
