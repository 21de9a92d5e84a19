"""A chaotic run: a job on a farm of four workers while things happen to it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from tests.chaos.checks import check_all
from tests.chaos.faults import Fault
from tests.chaos.wreck import Wreck

WORKERS: Final = {"small": 8.0, "medium": 8.0, "large": 24.0, "plain": None}
"""Name and GiB of VRAM: four workers of three classes."""

SETTLE_SECONDS: Final = 180.0
"""In which a farm that is left alone must end what was left over, besides rendering it."""

JOB: Final = "chaos"


@dataclass(kw_only=True)
class Report:
    """What a run came to."""

    items: int
    seconds: float = 0.0
    settled: float = 0.0  #: seconds from the last fault to the last outcome
    struck: Counter[str] = field(default_factory=Counter)
    outcomes: dict[str, int] = field(default_factory=dict)
    tasks: dict[str, int] = field(default_factory=dict)
    missed: int = 0

    def __str__(self) -> str:
        struck = ", ".join(f"{count} {victim}" for victim, count in sorted(self.struck.items()))
        tasks = ", ".join(f"{count} {state}" for state, count in sorted(self.tasks.items()))
        ended = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.items())
        return (
            f"{self.items} items: {ended}; {self.seconds:.0f} s, the last {self.settled:.0f}"
            f" undisturbed; {self.struck.total()} faults ({struck}), {self.missed} points that"
            f" nobody got to; tasks: {tasks}"
        )


def start_workers(wreck: Wreck, seconds_per_image: float) -> None:
    """All four, whose renderer takes that long."""
    for name, size in WORKERS.items():

        def start(name: str = name, size: float | None = size) -> None:
            wreck.farm.start_worker(name, size, seconds=seconds_per_image)

        wreck.keep(name, start)


def submit(wreck: Wreck, items: int, job: str = JOB) -> None:
    """Hand in a job."""
    manifest = wreck.farm.folder / f"{job}.txt"
    manifest.write_text("".join(f"picture {n} of {job}\n" for n in range(items)))
    wreck.farm.run("submit", manifest, "--name", job)


def run(
    wreck: Wreck,
    plan: Iterable[Fault],
    *,
    items: int,
    seconds: float,
    told: Callable[[str], None] = print,
) -> Report:
    """Strike by plan for at most `seconds` or until the job is done, let it end, and check it."""
    report = Report(items=items)
    wreck.farm.wait_until(lambda: bool(wreck.outcomes()), "the first outcome")
    began = time.monotonic()
    for fault in plan:
        done = wreck.outcomes()
        if time.monotonic() - began > seconds or done == items:
            break
        wreck.revive()
        if wreck.strike(fault):
            report.struck[str(fault.victim)] += 1
            at = "?" if done is None else done
            told(f"{time.monotonic() - began:4.0f} s  {at}/{items}  {fault}")
        _pause(wreck, fault.pause)
    last = time.monotonic()
    wreck.mend()
    settle(wreck, items)
    report.seconds, report.settled = time.monotonic() - began, time.monotonic() - last
    report.missed = wreck.missed
    report.outcomes = check_all(wreck.farm, JOB, items=items)
    states = wreck.farm.query("SELECT state, count(*) FROM tasks GROUP BY state")
    report.tasks = dict(states)
    return report


def _pause(wreck: Wreck, seconds: float) -> None:
    """The time between two faults is part of the plan; init systems go on meanwhile."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        wreck.revive()
        time.sleep(0.05)


def settle(wreck: Wreck, items: int) -> None:
    """Until every item has its outcome, as long as there is something new every so often."""
    best, since = -1, time.monotonic()
    while (done := wreck.outcomes()) != items:
        wreck.revive()
        if done is not None and done > best:
            best, since = done, time.monotonic()
        waited = time.monotonic() - since
        assert waited < SETTLE_SECONDS, f"{done} of {items} and no more\n{wreck.farm.said()}"
        time.sleep(0.1)
