"""The live workers, summed up for decisions."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.contract.claims import ClassFleet, FleetPart
from storage.contract.states import TaskState, WorkerState
from storage.db import profiles
from storage.db.tables import tasks, workers

HEARD_SECONDS: Final = 15.0
"""A worker beats once a second. From one that was not heard of for so long nothing is expected:
others must not leave work to it."""

Place = tuple[str, int, int, int]  # kind, VRAM, size of RAM, threads


def parts(connection: Connection, *, now: float) -> tuple[FleetPart, ...]:
    """The live workers by kind and size."""
    rows = connection.execute(_sums(workers.c.kind, now)).all()
    return _summed(rows, _speeds(connection), profiles.rungs_by_device(connection))


def by_class(connection: Connection, *, now: float) -> dict[str, ClassFleet]:
    """The live workers by VRAM class, and how many of each are idle."""
    rows = connection.execute(_sums(workers.c.vram_class, now)).all()
    speeds = _speeds(connection)
    seen = profiles.rungs_by_device(connection)
    busy = _busy(connection, now)
    by_label: dict[str, list[sa.Row[Any]]] = {}
    for row in rows:
        by_label.setdefault(row.vram_class, []).append(row)
    found: dict[str, ClassFleet] = {}
    for label, of_class in by_label.items():
        total = sum(row.live for row in of_class)
        idle = max(0, total - busy.get(label, 0))
        found[label] = ClassFleet(parts=_summed(of_class, speeds, seen), idle=idle)
    return found


def _live(now: float) -> tuple[sa.ColumnElement[bool], ...]:
    return workers.c.state == WorkerState.LIVE, workers.c.seen_at > now - HEARD_SECONDS


def _sums(by: sa.ColumnElement[Any], now: float) -> sa.Select[Any]:
    """Counts of live workers by what they are and which model they have loaded."""
    gib = 1 << 30
    what: list[Any] = [
        workers.c.kind,
        workers.c.vram_bytes,
        (workers.c.ram_bytes // gib).label("ram_gib"),
        workers.c.threads,
        workers.c.loaded_model,
    ]
    if by is not workers.c.kind:
        what.append(by)
    return (
        sa.select(
            *what, sa.func.count().label("live"), sa.func.min(workers.c.ram_bytes).label("ram")
        )
        .where(*_live(now))
        .group_by(*what)
        .order_by(*what[:4])
    )


def _summed(
    rows: list[sa.Row[Any]] | Any,
    speeds: dict[str, dict[str, float]],
    seen: dict[str, profiles.SeenByKey],
) -> tuple[FleetPart, ...]:
    """One part for what differs only in the model loaded, or in a little memory."""
    sums: dict[Place, list[Any]] = {}
    for row in rows:
        place = (row.kind, row.vram_bytes, int(row.ram_gib).bit_length(), row.threads)
        entry = sums.setdefault(place, [row.ram, 0, {}])
        entry[0] = min(entry[0], row.ram)
        entry[1] += row.live
        if row.loaded_model:
            entry[2][row.loaded_model] = entry[2].get(row.loaded_model, 0) + row.live
    return tuple(
        FleetPart(
            kind=kind,
            vram_bytes=vram,
            ram_bytes=ram,
            count=count,
            seconds_per_image=speeds.get(kind, {}),
            seen=seen.get(kind, {}),
            threads=max(1, threads),
            loaded=loaded,
        )
        for (kind, vram, _, threads), (ram, count, loaded) in sums.items()
    )


def _speeds(connection: Connection) -> dict[str, dict[str, float]]:
    return {
        kind: {key: profile.seconds_per_image for key, profile in found.items()}
        for kind, found in profiles.by_device(connection).items()
    }


def _busy(connection: Connection, now: float) -> dict[str, int]:
    """By class, how many live workers hold a lease."""
    found = connection.execute(
        sa.select(workers.c.vram_class, sa.func.count(sa.distinct(workers.c.id)))
        .join(tasks, tasks.c.worker_id == workers.c.id)
        .where(
            tasks.c.state == TaskState.LEASED,
            tasks.c.started_at.is_not(None),
            *_live(now),
        )
        .group_by(workers.c.vram_class)
    )
    return {row[0]: row[1] for row in found}
