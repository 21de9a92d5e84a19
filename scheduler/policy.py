"""Who claims what, and how much. Pure: plain values in, a plain value out.

The same function decides for one worker on a laptop, for a fleet, and in the simulator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from scheduler.estimate import seconds_per_image
from storage.contract.capability import ModeNeed, Requirements
from storage.contract.claims import Claim, Declined, OpenGroup, WorkerView
from storage.contract.classes import GIB

TARGET_SECONDS: Final = 120.0
"""A task should not last longer: what a lost worker costs, and how soon a pause acts."""

TRIAL_SECONDS: Final = 15.0
"""The same for a group this kind of device has not been measured on: the guess may be far off."""

MAX_TASK_ITEMS: Final = 4096
"""Bounds what lies in memory between the phases of a task."""

LEASE_FACTOR: Final = 5.0
MIN_LEASE_SECONDS: Final = 60.0
MAX_LEASE_SECONDS: Final = 3600.0


def choose(groups: Sequence[OpenGroup], worker: WorkerView, now: float) -> Claim | Declined:
    """The group this worker should take from, and how many items; or why none.

    `groups` are open groups with claimable items. `now` is for rules that depend on time.
    """
    best: tuple[tuple[object, ...], OpenGroup, ModeNeed] | None = None
    reasons: dict[str, None] = {}
    for group in groups:
        need = group.requirements.fit(worker.capability)
        if need is None:
            reasons.setdefault(_too_small(group.requirements, worker))
            continue
        rank = _rank(group, worker)
        if best is None or rank < best[0]:
            best = (rank, group, need)
    if best is None:
        return Declined(reasons=tuple(reasons))
    _, group, need = best
    return Claim(group_id=group.group_id, items=chunk(group, worker), mode=need.mode)


def _rank(group: OpenGroup, worker: WorkerView) -> tuple[object, ...]:
    """Smallest first: urgent, then what needs no loading, then what came first."""
    return (
        -group.priority,
        group.model != worker.loaded_model,
        group.job_id,
        group.group_id,
    )


def chunk(group: OpenGroup, worker: WorkerView) -> int:
    """How many items to take: weighted factoring, in whole batches.

    Half of the worker's fair share of what is left, so that chunks shrink as the work runs
    out and all workers end together; the target time is the ceiling, one batch the floor. A
    worker alone has nobody to end together with, and takes it all.
    """
    seconds, measured = expected_seconds(group, worker)
    ceiling = (TARGET_SECONDS if measured else TRIAL_SECONDS) / seconds
    alone = worker.fleet_share >= 1
    factored = group.claimable * (1.0 if alone else worker.fleet_share / 2)
    batches = math.ceil(min(factored, ceiling, MAX_TASK_ITEMS) / group.batch_size)
    return max(1, batches) * group.batch_size


def expected_seconds(group: OpenGroup, worker: WorkerView) -> tuple[float, bool]:
    """Seconds per image on this worker, and whether they were measured."""
    measured = worker.seconds_per_image.get(group.profile_key)
    if measured is not None:
        return max(measured, 1e-6), True
    return seconds_per_image(group.requirements, worker.capability, worker.tflops), False


def lease_seconds(seconds_per_batch: float) -> float:
    """How long a lease lasts without progress: some batches, within bounds.

    It is renewed with every denoising step, so it need not cover the task.
    """
    return min(MAX_LEASE_SECONDS, max(MIN_LEASE_SECONDS, LEASE_FACTOR * seconds_per_batch))


def _too_small(needs: Requirements, worker: WorkerView) -> str:
    capability = worker.capability
    on_cpu = capability.vram_bytes == 0
    need = needs.smallest(on_cpu=on_cpu)
    if need is None:
        return f"it cannot be rendered on a {'CPU' if on_cpu else 'GPU'}"
    room = capability.ram_bytes if on_cpu else capability.vram_bytes
    kind = "of memory" if on_cpu else "of VRAM"
    return (
        f"it needs {need.memory_bytes / GIB:.1f} GiB {kind} ({need.mode});"
        f" {capability.name} has {room / GIB:.1f} GiB"
    )
