"""The fluid bound: how fast the work could be done if images were sand.

No schedule can beat it, so a makespan is judged by its ratio to it.
"""

from __future__ import annotations

from itertools import combinations
from typing import Final

from scheduler.simulate.scenario import ModelSpec, Scenario, WorkerSpec

MAX_SUBSETS_OF: Final = 10
"""With more models than this only thresholds are tried, which is a weaker bound."""


def fluid_bound(scenario: Scenario, speeds: dict[str, float]) -> float:
    """Seconds from the first submission that the last image takes at least.

    `speeds` are the summed speeds of the workers by kind, slow ones as slow as they are. For
    each set of models, its work over the speed of all that can do any of it, and one load;
    the largest of these is what max-flow would give. Work that comes later counts from then.
    """
    arrivals = sorted({job.at for job in scenario.jobs})
    return max(at - arrivals[0] + _bound_from(scenario, speeds, at) for at in arrivals)


def _bound_from(scenario: Scenario, speeds: dict[str, float], at: float) -> float:
    work = _work(scenario, at)
    first_load = min(scenario.models[name].load_seconds for name in work)
    return first_load + max(
        sum(work[name] for name in names) / _speed(scenario, speeds, names)
        for names in _subsets(scenario, list(work))
    )


def _work(scenario: Scenario, at: float) -> dict[str, float]:
    """Seconds of a device of speed 1, by model, submitted at `at` or later."""
    work: dict[str, float] = {}
    for job in scenario.jobs:
        if job.at < at:
            continue
        for groups in job.groups:
            seconds = groups.items * groups.copies * _fastest(scenario, groups.model)
            work[groups.model] = work.get(groups.model, 0.0) + seconds
    return work


def _fastest(scenario: Scenario, name: str) -> float:
    """Per image at speed 1; in the fastest mode, so that the bound stays one."""
    model = scenario.models[name]
    return model.seconds * min(scenario.slowdown.get(mode, 1.0) for mode in model.gib)


def _speed(scenario: Scenario, speeds: dict[str, float], names: tuple[str, ...]) -> float:
    able = (
        speeds[worker.kind]
        for worker in scenario.workers
        if any(can(scenario.models[name], worker) for name in names)
    )
    return sum(able) or 1e-12


def can(model: ModelSpec, worker: WorkerSpec) -> bool:
    """Whether a worker of that kind can render the model in any mode."""
    on_cpu = worker.vram_gib == 0
    room = worker.ram_gib if on_cpu else worker.vram_gib
    return any(gib <= room for mode, gib in model.gib.items() if mode.on_cpu == on_cpu)


def _subsets(scenario: Scenario, names: list[str]) -> list[tuple[str, ...]]:
    if len(names) <= MAX_SUBSETS_OF:
        sizes = range(1, len(names) + 1)
        return [subset for size in sizes for subset in combinations(names, size)]
    names.sort(key=lambda name: -min(scenario.models[name].gib.values()))
    return [tuple(names[: end + 1]) for end in range(len(names))]
