"""The live workers, summed up by class: what tickets and reasons are decided from."""

from __future__ import annotations

from collections import Counter, defaultdict

import msgspec
import sqlalchemy as sa

from storage.contract.claims import ClassFleet, FleetPart
from storage.contract.states import TaskState, WorkerState
from storage.db import profiles, tables, workers
from storage.db.workers import Worker


def live_fleet(connection: sa.Connection) -> dict[str, ClassFleet]:
    """Every class that has live workers. One that drains or rests is not counted."""
    live = [one for one in workers.present(connection) if one.state == WorkerState.LIVE]
    busy = set(
        connection.execute(
            sa.select(tables.tasks.c.worker_id)
            .where(tables.tasks.c.state == TaskState.LEASED)
            .distinct()
        ).scalars()
    )
    by_class: defaultdict[str, list[Worker]] = defaultdict(list)
    for worker in live:
        by_class[worker.capability.vram_class].append(worker)
    speeds = {kind: _speeds(connection, kind) for kind in {w.capability.kind for w in live}}
    return {
        vram_class: ClassFleet(
            parts=_parts(its_workers, speeds),
            idle=sum(worker.id not in busy for worker in its_workers),
        )
        for vram_class, its_workers in by_class.items()
    }


def _speeds(connection: sa.Connection, kind: str) -> dict[str, float]:
    found = profiles.of_device(connection, kind)
    return {key: profile.seconds_per_image for key, profile in found.items()}


def _parts(its_workers: list[Worker], speeds: dict[str, dict[str, float]]) -> tuple[FleetPart, ...]:
    """Workers that are alike, counted. Memory is rounded down, so that they are alike."""
    counts = Counter(_alike(worker) for worker in its_workers)
    return tuple(
        msgspec.structs.replace(part, count=count, seconds_per_image=speeds[part.kind])
        for part, count in counts.items()
    )


_ROUGHLY = 256 * 1024**2


def _alike(worker: Worker) -> FleetPart:
    capability = worker.capability
    return FleetPart(
        kind=capability.kind,
        vram_bytes=capability.vram_bytes,
        ram_bytes=capability.ram_bytes // _ROUGHLY * _ROUGHLY,
        count=1,
        threads=capability.threads,
    )
