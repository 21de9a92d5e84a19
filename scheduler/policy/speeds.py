"""How long one image and one loading take, on a worker and on a kind of worker."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import msgspec

from scheduler.estimate import seconds_per_image
from storage.contract.capability import Capability, ModeNeed, Requirements, Seen, fitted
from storage.contract.claims import FleetPart, OpenGroup, WorkerView
from storage.contract.classes import GIB

READ_BYTES_PER_SECOND: Final = 0.75 * GIB
"""How fast weights are taken to come from the disk until a worker has measured it."""

SHORTEST: Final = 1e-6
"""A measurement of no time at all must divide nothing by zero."""

LEASE_FACTOR: Final = 5.0
MIN_LEASE_SECONDS: Final = 60.0
MAX_LEASE_SECONDS: Final = 3600.0


def expected_seconds(group: OpenGroup, worker: WorkerView) -> tuple[float, bool]:
    """Seconds per image on this worker, and whether that rests on measurements.

    Its own count first. Those of its kind do once it is known how it compares with them.
    """
    own, key = worker.own_seconds_per_image, group.profile_key
    if own is not None and key in own:
        return max(own[key], SHORTEST), True
    pace = _pace(worker)
    measured = worker.seconds_per_image.get(key)
    if measured is not None:
        return max(measured * (pace or 1.0), SHORTEST), pace is not None
    guess = seconds_per_image(group.requirements, worker.capability, worker.tflops)
    return guess * (pace or 1.0), False


def _pace(worker: WorkerView) -> float | None:
    """Its own seconds per image over those of its kind; None if it is not known yet."""
    if worker.own_seconds_per_image is None:
        return 1.0
    kind = worker.seconds_per_image
    ratios = [
        own / kind[key]
        for key, own in worker.own_seconds_per_image.items()
        if kind.get(key, 0.0) > 0
    ]
    return sum(ratios) / len(ratios) if ratios else None


def seconds_on(part: FleetPart, group: OpenGroup) -> float:
    """Seconds per image on a worker of that kind, measured or guessed."""
    measured = part.seconds_per_image.get(group.profile_key)
    if measured is not None:
        return max(measured, SHORTEST)
    return seconds_per_image(group.requirements, part, part.tflops)


def load_seconds(group: OpenGroup, worker: WorkerView) -> float:
    """What this worker waits before the first image, if it has another model loaded."""
    if worker.loaded_model == group.model:
        return 0.0
    measured = worker.load_seconds.get(group.model)
    if measured is not None:
        return measured
    return group.requirements.disk_bytes / READ_BYTES_PER_SECOND


def allowed_fit(group: OpenGroup, part: FleetPart) -> ModeNeed | None:
    """The best rung that fits a kind of device, unless the job keeps such devices out."""
    if kept_out(group.cpu, on_cpu=part.vram_bytes == 0):
        return None
    return needs_on(group, part.seen).fit(part)


def needs_on(group: OpenGroup, seen: Mapping[str, tuple[Seen, ...]]) -> Requirements:
    """What the group needs, corrected by what was `seen` on some kind of device."""
    of_group = seen.get(group.profile_key)
    return _fitted(group.requirements, of_group) if of_group else group.requirements


@lru_cache(maxsize=4096)
def _fitted(needs: Requirements, seen: tuple[Seen, ...]) -> Requirements:
    # A policy asks this of thousands of groups that share a few needs.
    return fitted(needs, seen)


def kept_out(cpu: str, *, on_cpu: bool) -> bool:
    """Whether the job's `cpu` setting (auto, never, only) keeps such a device out."""
    return cpu == ("never" if on_cpu else "only")


def device_now(worker: WorkerView) -> Capability:
    """What the worker has now: never more than it said when it registered."""
    capability, room = worker.capability, worker.room_bytes
    if room is None:
        return capability
    if capability.vram_bytes == 0:
        return msgspec.structs.replace(capability, ram_bytes=min(capability.ram_bytes, room))
    # Without any memory of its own it would look like a CPU.
    room = max(1, min(capability.vram_bytes, room))
    return msgspec.structs.replace(capability, vram_bytes=room)


def lease_seconds(seconds_per_batch: float) -> float:
    """How long a lease lasts without progress: some batches, within bounds.

    It is renewed with every denoising step, so it need not cover the task.
    """
    return min(MAX_LEASE_SECONDS, max(MIN_LEASE_SECONDS, LEASE_FACTOR * seconds_per_batch))


def smoothed(known: float | None, measured: float) -> float:
    """A worker's own seconds per image after one more task.

    Half old, half new: one odd task should not count for more than a trend.
    """
    return measured if known is None else (known + measured) / 2
