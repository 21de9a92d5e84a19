"""Why a worker takes nothing, and why a group does not move, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scheduler.policy.demand import Prospect
from scheduler.policy.speeds import allowed_fit, device_now, kept_out, needs_on
from storage.contract.capability import Device, Requirements
from storage.contract.claims import FleetPart, OpenGroup, WorkerView
from storage.contract.classes import GIB


def reason_against(one: Prospect, worker: WorkerView) -> str:
    """Why this worker takes nothing of that work."""
    kind, capability = one.work.kind, worker.capability
    on_cpu = capability.vram_bytes == 0
    if kept_out(kind.cpu, on_cpu=on_cpu):
        return _kept_out(kind.cpu)
    if one.need is not None:
        return f"the others will have ended it before {capability.name} could help"
    needs = _needs(needs_on(kind, worker.seen), on_cpu=on_cpu)
    if needs is None:
        return f"it cannot be rendered on a {'CPU' if on_cpu else 'GPU'}"
    return f"it {needs}; {capability.name} has {_room(device_now(worker)):.1f} GiB"


def explain(group: OpenGroup, fleet: Sequence[FleetPart]) -> list[str]:
    """Why none of the live workers can take the group; empty if some can.

    One sentence for the GPUs and one for the CPUs, each with the largest that is live.
    """
    present = [part for part in fleet if part.count > 0]
    if not present:
        return ["no worker is live; start one with: rendermill worker"]
    if any(_can(group, part) for part in present):
        return []
    said = []
    for on_cpu in (False, True):
        parts = [part for part in present if (part.vram_bytes == 0) == on_cpu]
        sentence = _of_devices(group, parts, on_cpu=on_cpu)
        if sentence:
            said.append(sentence)
    return said


def _of_devices(group: OpenGroup, parts: list[FleetPart], *, on_cpu: bool) -> str | None:
    what = "CPU" if on_cpu else "GPU"
    if kept_out(group.cpu, on_cpu=on_cpu):
        return _kept_out(group.cpu) if parts else None
    largest = max(parts, key=_room, default=None)
    needs = _needs(needs_on(group, largest.seen if largest else {}), on_cpu=on_cpu)
    if needs is None:
        return f"it cannot be rendered on a {what}" if parts else None
    if largest is None:
        return f"{needs}; no live worker has a {what}"
    return f"{needs}; the largest live worker has {_room(largest):.1f} GiB"


def _can(group: OpenGroup, part: FleetPart) -> bool:
    return allowed_fit(group, part) is not None


def _kept_out(cpu: str) -> str:
    if cpu == "never":
        return "its job keeps CPUs out (--cpu never)"
    return "its job is for CPUs only (--cpu only)"


def _needs(requirements: Requirements, *, on_cpu: bool) -> str | None:
    """What it needs in the mode that needs least; None if there is none for such devices."""
    need = requirements.smallest(on_cpu=on_cpu)
    if need is None:
        return None
    kind = "of memory" if on_cpu else "of VRAM"
    # Rounded up: what needs a little more than there is must not read like what there is.
    return f"needs {math.ceil(need.memory_bytes * 10 / GIB) / 10:.1f} GiB {kind} ({need.mode})"


def _room(device: Device) -> float:
    return (device.vram_bytes or device.ram_bytes) / GIB
