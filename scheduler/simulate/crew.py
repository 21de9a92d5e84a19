"""Simulated workers and what the fleet has measured of itself."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import Final

import msgspec

from scheduler import policy
from scheduler.simulate.books import REFERENCE_TFLOPS
from scheduler.simulate.bound import can
from scheduler.simulate.scenario import Scenario, WorkerSpec
from storage.contract.capability import Capability, Mode
from storage.contract.claims import ClassFleet, FleetPart, WorkerView
from storage.contract.classes import GIB, class_of

KNOWN_IMAGES: Final = 500
"""How many images a profile rests on that exists from earlier jobs."""


@dataclass(slots=True, eq=False)
class Worker:
    """One simulated worker."""

    kind: Kind
    factor: float  #: its own speed over its kind's
    loaded: str | None = None
    own: dict[str, float] = field(default_factory=dict)  #: its own seconds per image
    alive: bool = True
    idle_since: float = 0.0
    busy: float = 0.0  #: seconds it rendered
    fleet: tuple[FleetPart, ...] = ()  #: as it was when it last looked
    speeds: dict[str, float] = field(default_factory=dict)  #: of its kind, likewise
    looked_at: float = -math.inf


class Kind:
    """All workers of one kind, and their profile."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        self.vram_class = class_of(int(spec.vram_gib * GIB))
        self.capability = Capability(
            device="cuda:0" if spec.vram_gib else "cpu",
            kind=spec.kind,
            name=spec.kind,
            vram_bytes=int(spec.vram_gib * GIB),
            ram_bytes=int(spec.ram_gib * GIB),
            threads=spec.threads,
        )
        self.count = 0
        self.idle = 0
        self.loaded: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self._samples: dict[str, tuple[float, float]] = {}
        self._teraflop = 0.0
        self._spent = 0.0
        self._part: FleetPart | None = None

    @property
    def tflops(self) -> float | None:
        """Arithmetic speed over everything that was measured."""
        return self._teraflop / self._spent if self._spent else None

    @property
    def part(self) -> FleetPart:
        """What the policy sees of them."""
        if self._part is None:
            self._part = FleetPart(
                kind=self.spec.kind,
                vram_bytes=self.capability.vram_bytes,
                ram_bytes=self.capability.ram_bytes,
                count=self.count,
                seconds_per_image=self.seconds,
                tflops=self.tflops,
                threads=self.spec.threads,
                loaded=self.loaded,
            )
        return self._part

    def snapshot(self) -> FleetPart:
        """The same, as it is now and stays."""
        return msgspec.structs.replace(
            self.part, loaded=dict(self.loaded), seconds_per_image=dict(self.seconds)
        )

    def count_in(self, by: int) -> None:
        """Workers come or go."""
        self.count += by
        self._part = None

    def load(self, model: str | None, by: int) -> None:
        """That many more have the model."""
        if model is not None:
            self.loaded[model] = self.loaded.get(model, 0) + by

    def measured(self, model: str, images: float, seconds: float, tflop: float) -> None:
        """Add a sample to the profile."""
        known, spent = self._samples.get(model, (0.0, 0.0))
        self._samples[model] = (known + images, spent + seconds)
        self.seconds[model] = (spent + seconds) / (known + images)
        self._teraflop += tflop * images
        self._spent += seconds
        self._part = None


class Crew:
    """The fleet of a simulation."""

    def __init__(self, scenario: Scenario, random: Random) -> None:
        self.scenario = scenario
        self.kinds = [Kind(spec) for spec in scenario.workers]
        self.workers: list[Worker] = []
        self.load_seconds: dict[str, float] = {}
        #: Workers that wait at each queue, and the tickets that wait there.
        self.waiting: dict[str, deque[Worker]] = {kind.vram_class: deque() for kind in self.kinds}
        self.tickets = dict.fromkeys(self.waiting, 0)
        for kind in self.kinds:
            slow = round(kind.spec.count * scenario.faults.slow_share + random.random() - 0.5)
            for number in range(kind.spec.count):
                self.hire(kind, scenario.faults.slow_speed if number < slow else 1.0)
        if scenario.speeds_known:
            self._know_everything()

    def hire(self, kind: Kind, factor: float) -> Worker:
        """A new worker, with nothing loaded; it waits for a ticket."""
        worker = Worker(kind, factor)
        self.workers.append(worker)
        kind.count_in(1)
        return worker

    def wait(self, worker: Worker, now: float) -> None:
        """It waits at its queue."""
        worker.idle_since = now
        worker.kind.idle += 1
        self.waiting[worker.kind.vram_class].append(worker)

    def leave_queue(self, worker: Worker) -> None:
        """It waits no longer, if it did."""
        queue = self.waiting[worker.kind.vram_class]
        if worker in queue:
            queue.remove(worker)
            worker.kind.idle -= 1

    def next_waiting(self, vram_class: str) -> Worker | None:
        """The one that has waited longest at the queue."""
        queue = self.waiting[vram_class]
        if not queue:
            return None
        worker = queue.popleft()
        worker.kind.idle -= 1
        return worker

    def strength(self) -> dict[str, float]:
        """Summed true speeds by kind."""
        strength = {kind.spec.kind: 0.0 for kind in self.kinds}
        for worker in self.workers:
            strength[worker.kind.spec.kind] += worker.factor * worker.kind.spec.speed
        return strength

    def view(self, worker: Worker, now: float) -> WorkerView:
        """What the policy sees of a claiming worker and the fleet."""
        kind = worker.kind
        if now - worker.looked_at >= self.scenario.fleet_seconds:
            worker.fleet = tuple(one.snapshot() for one in self.kinds if one.count)
            worker.speeds = dict(kind.seconds)
            worker.looked_at = now
        return WorkerView(
            capability=kind.capability,
            loaded_model=worker.loaded,
            seconds_per_image=worker.speeds,
            tflops=kind.tflops,
            own_seconds_per_image=worker.own,
            load_seconds=self.load_seconds,
            fleet=worker.fleet,
        )

    def by_class(self) -> dict[str, ClassFleet]:
        """What the ticket loop sees."""
        kinds: dict[str, list[Kind]] = {}
        for kind in self.kinds:
            kinds.setdefault(kind.vram_class, []).append(kind)
        return {
            name: ClassFleet(
                parts=tuple(kind.part for kind in those), idle=sum(kind.idle for kind in those)
            )
            for name, those in kinds.items()
        }

    def true_seconds(self, worker: Worker, model: str, mode: Mode) -> float:
        """Seconds per image, which the policy does not see."""
        spec = self.scenario.models[model]
        slowdown = self.scenario.slowdown.get(mode, 1.0)
        return spec.seconds * slowdown / (worker.kind.spec.speed * worker.factor)

    def learn(self, worker: Worker, model: str, images: int, seconds: float) -> None:
        """A task ended: its worker's own speed and its kind's profile."""
        worker.own[model] = policy.smoothed(worker.own.get(model), seconds / images)
        tflop = self.scenario.models[model].seconds * self.scenario.models[model].guess
        worker.kind.measured(model, images, seconds, tflop * REFERENCE_TFLOPS)

    def _know_everything(self) -> None:
        for worker in self.workers:
            for name, model in self.scenario.models.items():
                if can(model, worker.kind.spec):
                    worker.own[name] = self._kind_seconds(name, worker.kind) / worker.factor
        for name, model in self.scenario.models.items():
            self.load_seconds[name] = model.load_seconds
            for kind in self.kinds:
                if can(model, kind.spec):
                    seconds = self._kind_seconds(name, kind)
                    tflop = model.seconds * model.guess * REFERENCE_TFLOPS
                    kind.measured(name, KNOWN_IMAGES, KNOWN_IMAGES * seconds, tflop)

    def _kind_seconds(self, name: str, kind: Kind) -> float:
        model, spec = self.scenario.models[name], kind.spec
        room = spec.vram_gib or spec.ram_gib
        fitting = [
            mode
            for mode, gib in model.gib.items()
            if gib <= room and mode.on_cpu == (spec.vram_gib == 0)
        ]
        fastest = min(fitting, key=list(Mode).index)
        return model.seconds * self.scenario.slowdown.get(fastest, 1.0) / spec.speed
