"""Whom to wake: how many tickets each queue should get now.

A ticket only says that there is work. It may be lost or find nothing, so the numbers need not
be exact; they must let no worker that could help wait, and wake hardly anybody for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from scheduler.policy.demand import Work, levels
from scheduler.policy.speeds import allowed_fit
from storage.contract.claims import ClassFleet, OpenGroup
from storage.contract.classes import VRAM_CLASSES

TICKETS_PER_WORKER: Final = 2
"""One that it works on or is about to take, and one that waits for it at the queue."""


def tickets_wanted(
    groups: Iterable[OpenGroup],
    fleet_by_class: Mapping[str, ClassFleet],
    queued_by_class: Mapping[str, int],
    now: float,
) -> dict[str, int]:
    """Tickets to issue now, by class; classes that need none are left out.

    There are as many as batches to claim, at most two for each live worker that could claim
    one. The smallest sufficient class is woken first, larger ones only while they are idle or
    if the smaller ones have their hands full. `now` is for rules that depend on time.
    """
    classes = [name for name in VRAM_CLASSES if name in fleet_by_class]
    idle = {name: fleet_by_class[name].idle for name in classes}
    busy = {name: fleet_by_class[name].live * TICKETS_PER_WORKER - idle[name] for name in classes}
    wanted = dict.fromkeys(classes, 0)
    for able, batches in sorted(_demand(groups, fleet_by_class, classes).items(), key=_constrained):
        left = batches
        for room in (idle, busy):
            for name in able:
                taken = min(left, room[name])
                room[name] -= taken
                wanted[name] += taken
                left -= taken
    missing = {name: wanted[name] - queued_by_class.get(name, 0) for name in classes}
    return {name: count for name, count in missing.items() if count > 0}


def _demand(
    groups: Iterable[OpenGroup], fleet_by_class: Mapping[str, ClassFleet], classes: list[str]
) -> dict[tuple[str, ...], int]:
    """Batches to claim, by the classes that can render them."""
    demand: dict[tuple[str, ...], int] = {}
    for works in levels(groups):
        for work in works:
            able = tuple(name for name in classes if _can(work, fleet_by_class[name]))
            demand[able] = demand.get(able, 0) + _batches(work)
    return demand


def _batches(work: Work) -> int:
    return sum(-(-group.claimable // group.batch_size) for group in work.groups)


def _can(work: Work, fleet: ClassFleet) -> bool:
    kind = work.kind
    return any(
        part.count and allowed_fit(kind.requirements, kind.cpu, part) for part in fleet.parts
    )


def _constrained(entry: tuple[tuple[str, ...], int]) -> tuple[int, tuple[str, ...]]:
    """Work that fewest classes can do is given its workers first."""
    return len(entry[0]), entry[0]
