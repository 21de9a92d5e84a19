"""How much a worker takes at once: weighted factoring, in whole batches."""

from __future__ import annotations

import math
from typing import Final

from scheduler.policy.demand import Prospect
from scheduler.policy.level import Level
from storage.contract.claims import OpenGroup

TARGET_SECONDS: Final = 120.0
"""A task should not last longer: what a lost worker costs, and how soon a pause acts."""

TRIAL_SECONDS: Final = 15.0
TRIAL_BATCHES: Final = 2
"""The same for a worker whose speed at the group is a guess, which may be far off."""

MAX_TASK_ITEMS: Final = 4096
"""Bounds what lies in memory between the phases of a task."""

MAX_ALSO: Final = 512
"""Bounds the transaction that cuts many small groups at once."""

FACTOR: Final = 0.5
"""What share of its fair share of the rest a worker takes at once."""


def cut_size(level: Level, one: Prospect) -> int:
    """How many items to take, of one group or several.

    Half of the worker's fair share of what is left, so that chunks shrink as the work runs
    out and all workers end together; the target time is the ceiling, one batch the floor. A
    worker alone has nobody to end together with, and takes it all.
    """
    batch = one.work.kind.batch_size
    most = MAX_TASK_ITEMS // batch if one.measured else TRIAL_BATCHES
    seconds = TARGET_SECONDS if one.measured else TRIAL_SECONDS
    if not level.fleet.worker.more_groups:
        left = _claimable_seconds(level, one)
        seconds = min(seconds, left if one.alone else left * FACTOR)
    batches = math.ceil(seconds / one.batch_seconds - 1e-6)
    return max(1, min(batches, most)) * batch


def neighbours(level: Level, one: Prospect, group: OpenGroup, *, room: int) -> tuple[int, ...]:
    """Further small groups of the same job and model to cut whole, worth up to `room` items."""
    alike = [other for other in level.mine if other.model == one.model and other.rendered_like(one)]
    seconds = room * one.own_seconds
    images = MAX_TASK_ITEMS - group.claimable
    found: list[int] = []
    for other in sorted(alike, key=lambda other: (other is not one, other.work.kind.group_id)):
        for near in sorted(other.work.groups, key=lambda near: near.group_id):
            if near.job_id != group.job_id or near.group_id == group.group_id:
                continue
            costs = -(-near.claimable // near.batch_size) * other.batch_seconds
            if costs > seconds or near.claimable > images or len(found) == MAX_ALSO:
                return tuple(found)
            seconds -= costs
            images -= near.claimable
            found.append(near.group_id)
    return tuple(found)


def _claimable_seconds(level: Level, one: Prospect) -> float:
    """In how long those that share the model would have claimed what is left of it."""
    total = 0.0
    for other in level.mine:
        if other.model == one.model:
            together = max(other.serving + other.rate, level.planned_speed(other))
            if not level.fleet.parts:
                together = other.able
            total += other.work.claimable / together
    return total
