"""Whom to wake: how many tickets each queue should get now.

A ticket only says that there is work. It may be lost or find nothing, so the numbers need not
be exact; they must let no worker that could help wait, and wake hardly anybody for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from scheduler.policy.choice import choose_from
from scheduler.policy.demand import Work, levels
from scheduler.policy.speeds import allowed_fit
from storage.contract.capability import Capability
from storage.contract.claims import Claim, ClassFleet, FleetPart, OpenGroup, WorkerView
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
    if the smaller ones have their hands full. A class whose workers would all decline, since
    others will end the rest sooner, is not woken.
    """
    thirsty = [
        name
        for name in VRAM_CLASSES
        if name in fleet_by_class
        and queued_by_class.get(name, 0) < fleet_by_class[name].live * TICKETS_PER_WORKER
    ]
    if not thirsty:
        return {}
    demand = levels(groups)
    everybody = tuple(part for fleet in fleet_by_class.values() for part in fleet.parts)
    classes = [
        name
        for name in VRAM_CLASSES
        if name in fleet_by_class
        and (name not in thirsty or _willing(demand, fleet_by_class[name], everybody, now))
    ]
    idle = {name: fleet_by_class[name].idle for name in classes}
    busy = {name: fleet_by_class[name].live * TICKETS_PER_WORKER - idle[name] for name in classes}
    wanted = dict.fromkeys(classes, 0)
    for able, batches in sorted(
        _batches_by_classes(demand, fleet_by_class, classes).items(), key=_constrained
    ):
        left = batches
        for room in (idle, busy):
            for name in able:
                taken = min(left, room[name])
                room[name] -= taken
                wanted[name] += taken
                left -= taken
    missing = {name: wanted[name] - queued_by_class.get(name, 0) for name in classes}
    return {name: count for name, count in missing.items() if count > 0}


def _willing(
    demand: list[list[Work]], fleet: ClassFleet, everybody: tuple[FleetPart, ...], now: float
) -> bool:
    """Whether any worker of the class would claim, whatever it has loaded."""
    return any(
        isinstance(choose_from(demand, _one_of(part, model, everybody), now), Claim)
        for part in fleet.parts
        for model in _loaded_models(part)
    )


def _loaded_models(part: FleetPart) -> list[str | None]:
    with_model: list[str | None] = [model for model, count in part.loaded.items() if count > 0]
    if sum(part.loaded.values()) < part.count:
        with_model.append(None)
    return with_model


def _one_of(part: FleetPart, model: str | None, everybody: tuple[FleetPart, ...]) -> WorkerView:
    """Some worker of the part as it would see things if it claimed now."""
    return WorkerView(
        capability=Capability(
            device="",
            kind=part.kind,
            name=part.kind,
            vram_bytes=part.vram_bytes,
            ram_bytes=part.ram_bytes,
            threads=part.threads,
        ),
        loaded_model=model,
        seconds_per_image=part.seconds_per_image,
        seen=part.seen,
        tflops=part.tflops,
        fleet=everybody,
    )


def _batches_by_classes(
    demand: list[list[Work]], fleet_by_class: Mapping[str, ClassFleet], classes: list[str]
) -> dict[tuple[str, ...], int]:
    """Batches to claim, by the classes that can render them."""
    found: dict[tuple[str, ...], int] = {}
    for works in demand:
        for work in works:
            able = tuple(name for name in classes if _can(work, fleet_by_class[name]))
            found[able] = found.get(able, 0) + _batches(work)
    return found


def _batches(work: Work) -> int:
    return sum(-(-group.claimable // group.batch_size) for group in work.groups)


def _can(work: Work, fleet: ClassFleet) -> bool:
    kind = work.kind
    return any(part.count and allowed_fit(kind, part) for part in fleet.parts)


def _constrained(entry: tuple[tuple[str, ...], int]) -> tuple[int, tuple[str, ...]]:
    """Work that fewest classes can do is given its workers first."""
    return len(entry[0]), entry[0]
