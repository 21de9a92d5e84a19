"""Rendering a job on this machine: planning its worker processes, watching them."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import Final

import msgspec
import psutil

from scheduler import estimate
from scheduler.loops.rescue import rescue
from scheduler.loops.stalls import reasons
from scheduler.service import processes
from scheduler.service.supervisors import DevicePlan, Orders, Supervisors
from scheduler.service.watching import Rate, Snapshot
from storage.contract.errors import LedgerUnavailable
from storage.contract.states import WorkerState
from storage.db import groups, jobs, workers
from storage.db.groups import GroupView
from storage.db.jobs import Job
from storage.db.workers import Worker
from storage.objects.folder import FolderStore
from storage.opening import Mill

RESCUE_SECONDS: Final = 2.0
SWEPT_AFTER_SECONDS: Final = 3600.0
GROUPS_LOOKED_AT: Final = 1000


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to render on this machine."""

    devices: tuple[str, ...] = ()  #: empty: all that are worth it
    processes: int | None = None  #: worker processes on the CPU; None: by cores and memory
    threads: int | None = None  #: CPU threads each; None: by the size of the images
    vram_limit: int | None = None  #: bytes; a CPU then passes for a card with so much
    grace: float = 30.0
    renderer: str = "diffusers"
    fake_seconds: float = 0.0
    apart: bool = False  #: in the mill's home alone, whatever farm the environment names


def plan(job_groups: list[GroupView], options: RunOptions) -> list[DevicePlan]:
    """Which worker processes to start for these groups."""
    plans = []
    for device in options.devices or processes.devices():
        if device != "cpu":
            plans.append(DevicePlan(device=device, threads=1))
            continue
        plans.append(_cpu_plan(job_groups, options))
    return plans


def _cpu_plan(job_groups: list[GroupView], options: RunOptions) -> DevicePlan:
    cores = processes.cores()
    threads = options.threads or max(
        (estimate.cpu_threads(group.spec, cores) for group in job_groups), default=1
    )
    count = options.processes or (1 if options.vram_limit else None)  # one worker a card
    if count is not None:
        return DevicePlan(device="cpu", processes=count, threads=threads)
    free = psutil.virtual_memory().available
    count = min(
        (estimate.cpu_workers(group.requirements, threads, cores, free) for group in job_groups),
        default=1,
    )
    batches = sum(
        -(
            -(group.stop_item - group.first_item - group.done - group.failed)
            // group.spec.batch.denoise
        )
        for group in job_groups
    )
    return DevicePlan(device="cpu", processes=max(1, min(count, batches)), threads=threads)


class LocalRun:
    """One job being rendered by worker processes of this machine."""

    def __init__(self, mill: Mill, job: Job, options: RunOptions) -> None:
        self._mill = mill
        self._job_id = job.id
        self._options = options
        self._supervisors = Supervisors(
            Orders(
                home=mill.home,
                job_id=job.id,
                grace=options.grace,
                vram_limit=options.vram_limit,
                renderer=options.renderer,
                fake_seconds=options.fake_seconds,
                apart=options.apart,
            )
        )
        self._pids: set[int] = set()
        self._waiting: str | None = None
        self._failure: str | None = None
        self._rescue_at = 0.0
        self._stuck: str | None = None
        self._rate = Rate()

    def start(self) -> list[DevicePlan]:
        """Free what dead workers left, and start new ones."""
        rescue(self._mill.ledger, is_alive=processes.is_alive)
        if isinstance(self._mill.store, FolderStore):
            self._mill.store.sweep(SWEPT_AFTER_SECONDS)
        with self._mill.ledger.read() as connection:
            found = list(groups.of_job(connection, self._job_id, limit=GROUPS_LOOKED_AT))
        plans = plan(found, self._options)
        for one in plans:
            self._supervisors.start(one)
        return plans

    def interrupt(self, *, at_once: bool = False) -> None:
        """Ask the workers to finish their batch and hand back the rest, or to stop now."""
        self._supervisors.interrupt(at_once=at_once)

    def look(self) -> Snapshot:
        """How the run stands now; also what must be done from time to time."""
        self._hear()
        if time.monotonic() >= self._rescue_at:
            with suppress(LedgerUnavailable):  # the workers will say what is wrong with it
                rescue(self._mill.ledger, is_alive=processes.is_alive)
            self._leave_if_stuck()
            self._rescue_at = time.monotonic() + RESCUE_SECONDS
        with self._mill.ledger.read() as connection:
            job = jobs.get(connection, self._job_id)
            present = [worker for worker in workers.present(connection) if self._is_ours(worker)]
        rate = self._rate.after(job.done + job.failed)
        return Snapshot(
            job=job,
            workers=tuple(sorted(present, key=lambda worker: worker.name)),
            images_per_second=rate,
            seconds_left=job.remaining / rate if rate else None,
            waiting=self._waiting,
            running=self._supervisors.running,
            failure=self._failure,
        )

    def close(self) -> None:
        """End everything that was started; safe to repeat."""
        self._supervisors.close()
        self._hear()

    def _leave_if_stuck(self) -> None:
        """End the run if, twice in a row, no live worker could take any of what is left.

        Nobody else comes to help on one machine, so waiting would be for ever.
        """
        with suppress(LedgerUnavailable):
            why = self._why_stuck()
            if why is not None and why == self._stuck and self._failure is None:
                self._failure = f"nothing here can render what is left: {why}"
                self._supervisors.interrupt()
            self._stuck = why

    def _why_stuck(self) -> str | None:
        ledger = self._mill.ledger
        with ledger.read() as connection:
            if not any(self._is_ours(worker) for worker in workers.present(connection)):
                return None  # they are still starting
            if not jobs.get(connection, self._job_id).remaining:
                return None
            found = groups.of_job(connection, self._job_id, limit=GROUPS_LOOKED_AT)
            if any(group.leased for group in found):
                return None
            return "; ".join(reasons(connection, self._job_id, now=ledger.now())) or None

    def _is_ours(self, worker: Worker) -> bool:
        here = worker.host == socket.gethostname()
        return here and worker.pid in self._pids and worker.state != WorkerState.GONE

    def _hear(self) -> None:
        for told in self._supervisors.hear():
            match told.event:
                case "started":
                    self._pids.add(told.pid)
                    self._waiting = None
                case "waiting":
                    self._waiting = f"{told.device}: {told.message}"
                case "failed":
                    self._failure = told.message
