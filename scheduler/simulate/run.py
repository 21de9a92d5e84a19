"""The simulation itself: a heap of events and a clock that jumps from one to the next."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final

from scheduler import policy
from scheduler.simulate.books import EPOCH, Books
from scheduler.simulate.bound import fluid_bound
from scheduler.simulate.crew import Crew, Worker
from scheduler.simulate.outcome import JobOutcome, Outcome
from scheduler.simulate.scenario import JobSpec, Scenario
from scheduler.simulate.task import Task
from storage.contract.claims import Declined, OpenGroup

STALLED_SECONDS: Final = 3600.0
"""With nothing under lease and nothing claimed for so long, nobody ever will."""


def simulate(scenario: Scenario, seed: int) -> Outcome:
    """Run one scenario with one seed."""
    return Simulation(scenario, seed).run()


class Simulation:
    """One scenario with one seed, under way."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self._scenario = scenario
        self._seed = seed
        self._random = Random(seed)
        self._began = self._now = min(job.at for job in scenario.jobs)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._scheduled = 0
        self._books = Books(scenario)
        self._crew = Crew(scenario, self._random)
        self._team = len(self._crew.workers)
        self._bound = fluid_bound(scenario, self._crew.strength())
        self._active: dict[Worker, Task] = {}
        self._jobs_to_come = len(scenario.jobs)
        #: When work last appeared and when each worker last looked: a wait begins with either.
        self._work_since = self._last_claim = self._now
        self._looked: dict[Worker, float] = {}
        self._waits: list[float] = []
        self._claims = self._declined = self._loads = self._deaths = 0
        self._loop_cpu = self._claim_cpu = 0.0
        self._stalled: tuple[str, ...] = ()

    def run(self) -> Outcome:
        """Let it all happen."""
        for worker in self._crew.workers:
            self._crew.wait(worker, self._now)
            if self._random.random() < self._scenario.faults.death_share:
                self._at(self._random.random() * self._bound, partial(self._die, worker))
        for job in self._scenario.jobs:
            self._at(job.at - self._now, partial(self._submit, job))
        self._at(0, self._tick)
        while (self._jobs_to_come or self._books.undone) and not self._stalled:
            self._now, _, happens = heapq.heappop(self._events)
            happens()
        return self._outcome()

    def _at(self, seconds: float, happens: Callable[[], None]) -> None:
        """Let something happen in some seconds."""
        self._scheduled += 1
        heapq.heappush(self._events, (self._now + seconds, self._scheduled, happens))

    # Submitting and waking

    def _submit(self, job: JobSpec) -> None:
        self._jobs_to_come -= 1
        self._work_since = self._now
        self._books.submit(job)

    def _tick(self) -> None:
        groups = self._books.open_groups(self._now)
        if groups:
            self._issue_tickets(groups)
            if not self._active and self._now - self._last_claim > STALLED_SECONDS:
                self._stall(groups)
        self._at(self._scenario.tick_seconds, self._tick)

    def _issue_tickets(self, groups: list[OpenGroup]) -> None:
        crew = self._crew
        by_class = crew.by_class()
        started = time.process_time()
        wanted = policy.tickets_wanted(groups, by_class, crew.tickets, EPOCH + self._now)
        self._loop_cpu += time.process_time() - started
        for vram_class, count in wanted.items():
            crew.tickets[vram_class] += count
            self._deliver(vram_class)

    def _deliver(self, vram_class: str) -> None:
        crew = self._crew
        while crew.tickets[vram_class]:
            worker = crew.next_waiting(vram_class)
            if worker is None:
                return
            crew.tickets[vram_class] -= 1
            self._at(self._scenario.claim_seconds, partial(self._claim, worker))

    def _free(self, worker: Worker) -> None:
        """The worker asks its queue for the next ticket."""
        self._crew.wait(worker, self._now)
        self._deliver(worker.kind.vram_class)

    def _stall(self, groups: list[OpenGroup]) -> None:
        parts = [kind.part for kind in self._crew.kinds]
        said = {why for group in groups for why in policy.explain(group, parts)}
        self._stalled = tuple(sorted(said)) or ("no worker takes what some could do",)

    # One task

    def _claim(self, worker: Worker) -> None:
        if not worker.alive:
            return
        groups = self._books.open_groups(self._now)
        view = self._crew.view(worker, self._now)
        started = time.process_time()
        decision = policy.choose(groups, view, EPOCH + self._now)
        self._claim_cpu += time.process_time() - started
        if isinstance(decision, Declined):
            self._declined += bool(groups)
            self._looked[worker] = self._now
            self._free(worker)
            return
        self._note_claim(worker)
        task = Task(worker, decision.mode, self._books.cut(decision, self._now), self._now)
        self._active[worker] = task
        if worker.loaded == task.model:
            self._begin_piece(task)
        else:
            self._begin_loading(task)
        if self._random.random() < self._scenario.faults.deaths_per_task:
            lasts = sum(self._seconds_of(task, at) for at in range(len(task.pieces)))
            self._at(self._random.random() * lasts, partial(self._die_of, task))

    def _note_claim(self, worker: Worker) -> None:
        self._claims += 1
        self._last_claim = self._now
        since = max(worker.idle_since, self._looked.get(worker, 0.0), self._work_since)
        self._waits.append(self._now - since)

    def _begin_loading(self, task: Task) -> None:
        worker, model = task.worker, task.model
        worker.kind.load(worker.loaded, -1)
        worker.kind.load(model, 1)
        worker.loaded = model
        self._loads += 1
        self._at(self._scenario.models[model].load_seconds, partial(self._loaded, task))

    def _loaded(self, task: Task) -> None:
        seconds = self._scenario.models[task.model].load_seconds
        self._crew.load_seconds.setdefault(task.model, seconds)
        self._begin_piece(task)

    def _begin_piece(self, task: Task) -> None:
        if self._active.get(task.worker) is not task:
            return
        if task.at == 0:
            task.factor = max(0.3, self._random.gauss(1.0, self._scenario.noise))
        seconds = self._seconds_of(task, task.at)
        task.begin_piece(self._now, seconds)
        self._at(seconds, partial(self._end_piece, task))

    def _end_piece(self, task: Task) -> None:
        if self._active.get(task.worker) is not task:
            return
        task.end_piece(self._books, self._now)
        if task.at < len(task.pieces):
            self._begin_piece(task)
            return
        del self._active[task.worker]
        task.worker.busy += task.rendered
        self._crew.learn(task.worker, task.model, task.images, task.rendered)
        self._free(task.worker)

    def _seconds_of(self, task: Task, at: int) -> float:
        piece = task.pieces[at]
        each = self._crew.true_seconds(task.worker, task.model, task.mode)
        return piece.batches * piece.group.batch * each * task.factor

    # Faults

    def _die_of(self, task: Task) -> None:
        if self._active.get(task.worker) is task:
            self._die(task.worker)

    def _die(self, worker: Worker) -> None:
        """The process ends; what it committed stays, what it held is found to be lost later."""
        if not worker.alive:
            return
        worker.alive = False
        self._deaths += 1
        self._crew.leave_queue(worker)
        task = self._active.pop(worker, None)
        if task is not None:
            task.stop(self._books, self._now)
            worker.busy += task.rendered
        faults = self._scenario.faults
        self._at(faults.detected_after, partial(self._rescue, worker, task))
        self._at(faults.restart_after, partial(self._replace, worker))

    def _rescue(self, worker: Worker, task: Task | None) -> None:
        """The worker is signed off, and its items go back."""
        worker.kind.count_in(-1)
        worker.kind.load(worker.loaded, -1)
        if task is not None:
            task.give_back(self._books, self._now)
            self._work_since = self._now

    def _replace(self, worker: Worker) -> None:
        self._free(self._crew.hire(worker.kind, worker.factor))

    def _outcome(self) -> Outcome:
        self._waits.sort()
        return Outcome(
            seed=self._seed,
            bound=self._bound,
            makespan=self._now - self._began,
            images=sum(group.stop for group in self._books.groups.values()),
            workers=self._team,
            claims=self._claims,
            declined=self._declined,
            loads=self._loads,
            deaths=self._deaths,
            busy=sum(worker.busy for worker in self._crew.workers),
            ticket_wait=self._waits[int(len(self._waits) * 0.99)] if self._waits else 0.0,
            jobs=tuple(_job_outcome(*pair) for pair in self._books.outcomes()),
            stalled=self._stalled,
            loop_cpu=self._loop_cpu,
            claim_cpu=self._claim_cpu,
        )


def _job_outcome(spec: JobSpec, first_claim: float | None, ended: float | None) -> JobOutcome:
    lasted = None if ended is None else ended - spec.at
    return JobOutcome(
        name=spec.name,
        first_claim=None if first_claim is None else first_claim - spec.at,
        ended=lasted,
        deadline_met=None
        if spec.deadline is None
        else lasted is not None and lasted <= spec.deadline,
    )
