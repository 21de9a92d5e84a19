"""The open groups summed up into works: what any device renders alike.

A fleet has thousands of groups but few kinds of work. Everything the policy weighs (speeds,
fit, how long the fleet still needs) belongs to the kind, so it is computed once for each.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from scheduler.policy.speeds import (
    allowed_fit,
    device_now,
    expected_seconds,
    kept_out,
    load_seconds,
    needs_on,
    seconds_on,
)
from storage.contract.capability import ModeNeed
from storage.contract.claims import FleetPart, OpenGroup, WorkerView


class Work:
    """Groups of one priority and one kind, summed up."""

    __slots__ = ("claimable", "groups", "heads", "kind", "leased")

    def __init__(self, first: OpenGroup) -> None:
        self.kind = first  #: stands for all of them
        self.groups = [first]
        self.heads = {first.job_id: first}  #: each job's first group
        self.claimable = first.claimable
        self.leased = first.leased

    def add(self, group: OpenGroup) -> None:
        """Count one more group in."""
        self.groups.append(group)
        self.claimable += group.claimable
        self.leased += group.leased
        head = self.heads.setdefault(group.job_id, group)
        if group.group_id < head.group_id:
            self.heads[group.job_id] = group

    @property
    def undone(self) -> int:
        """Items without outcome, under lease or not."""
        return self.claimable + self.leased


class Fleet:
    """The live workers, the claiming one set apart."""

    __slots__ = ("mine", "others", "parts", "worker")

    def __init__(self, worker: WorkerView) -> None:
        self.worker = worker
        self.parts = worker.fleet
        self.mine = _part_of(worker)  #: index of its part; None if the fleet does not count it
        #: How many of each part, the claiming worker left out, have which model.
        self.others: list[dict[str, int]] = [part.loaded for part in worker.fleet]
        model = worker.loaded_model
        if self.mine is not None and model and self.parts[self.mine].loaded.get(model):
            self.others[self.mine] = dict(self.others[self.mine])
            self.others[self.mine][model] -= 1


class Prospect:
    """One work as the claiming worker and the fleet around it see it."""

    __slots__ = (
        "able",
        "all_measured",
        "batch_seconds",
        "best_other",
        "faster",
        "load",
        "loaded",
        "measured",
        "model",
        "need",
        "own_seconds",
        "reach",
        "seconds",
        "serving",
        "work",
    )

    def __init__(self, work: Work, fleet: Fleet) -> None:
        worker, kind = fleet.worker, work.kind
        self.work = work
        self.model = kind.model
        self.need = _own_need(kind, worker)  #: of the claiming worker; None: it cannot
        self.own_seconds, self.measured = expected_seconds(kind, worker)  #: per image
        self.batch_seconds = self.own_seconds * kind.batch_size
        self.loaded = worker.loaded_model == kind.model
        self.load = load_seconds(kind, worker)
        #: Seconds per image by part of the fleet; infinite where it does not fit.
        self.seconds = part_seconds(kind, fleet.parts)
        self.serving = 0.0  #: images a second of the other workers that have the model
        self.best_other = math.inf  #: seconds per image of the fastest of those
        self.faster = 0.0  #: images a second of those that are faster than this one
        self.able = 0.0  #: images a second of all that can do it, the claiming one included
        self.reach = 0  #: how many can do it
        self.all_measured = True  #: on each kind that can do it and has the model
        for part, loaded, seconds in zip(fleet.parts, fleet.others, self.seconds, strict=True):
            if seconds < math.inf:
                self.reach += part.count
                self.able += part.count / seconds
                if loaded.get(self.model, 0) > 0:
                    self.serving += loaded[self.model] / seconds
                    self.best_other = min(self.best_other, seconds)
                    if seconds < self.own_seconds:
                        self.faster += loaded[self.model] / seconds
                    self.all_measured &= kind.profile_key in part.seconds_per_image
        if fleet.mine is None:
            self.able += self.rate

    @property
    def rung(self) -> ModeNeed:
        """How the claiming worker would render it; asked only of what fits."""
        if self.need is None:
            raise ValueError(f"{self.model} does not fit this worker")
        return self.need

    def rendered_like(self, other: Prospect) -> bool:
        """Whether the claiming worker would begin both at the same rung."""
        mine, its = self.rung, other.rung
        return (mine.mode, mine.batch, mine.tiled) == (its.mode, its.batch, its.tiled)

    @property
    def rate(self) -> float:
        """Images a second of the claiming worker."""
        return 1 / self.own_seconds

    @property
    def alone(self) -> bool:
        """Whether nobody else could help."""
        return self.able <= self.rate * 1.0001 or (self.reach == 1 and self.serving == 0)


def levels(groups: Iterable[OpenGroup]) -> list[list[Work]]:
    """Works by priority, most urgent first."""
    works: dict[tuple[int, str, str, str, int], Work] = {}
    for group in groups:
        key = (group.priority, group.model, group.profile_key, group.cpu, group.batch_size)
        work = works.get(key)
        if work is None:
            works[key] = Work(group)
        else:
            work.add(group)
    by_priority: dict[int, list[Work]] = {}
    for work in works.values():
        by_priority.setdefault(work.kind.priority, []).append(work)
    return [by_priority[priority] for priority in sorted(by_priority, reverse=True)]


def part_seconds(kind: OpenGroup, parts: Sequence[FleetPart]) -> list[float]:
    """Seconds per image by part; infinite where it does not fit or is kept out."""
    return [seconds_on(part, kind) if allowed_fit(kind, part) else math.inf for part in parts]


def _own_need(kind: OpenGroup, worker: WorkerView) -> ModeNeed | None:
    if kept_out(kind.cpu, on_cpu=worker.capability.vram_bytes == 0):
        return None
    return needs_on(kind, worker.seen).fit(device_now(worker))


def _part_of(worker: WorkerView) -> int | None:
    """The part it is counted in: of its kind and size, and if there are several, with its model."""
    capability, model = worker.capability, worker.loaded_model or ""
    alike = [
        index
        for index, part in enumerate(worker.fleet)
        if part.kind == capability.kind and part.vram_bytes == capability.vram_bytes
    ]
    return max(alike, key=lambda index: model in worker.fleet[index].loaded, default=None)
