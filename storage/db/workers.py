"""Workers: one row for each process that ever registered, and what it is doing."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.contract.capability import Capability
from storage.contract.claims import Progress
from storage.contract.errors import NotFoundError
from storage.contract.states import Entity, WorkerState
from storage.db.tables import tasks, workers
from storage.db.transitions import advance, record

_CAPABILITY = msgspec.json.Decoder(Capability)
_PROGRESS = msgspec.json.Decoder(Progress)
_ID_DIGITS = 18  # more do not fit into SQL's integers


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's row."""

    id: int
    name: str
    state: str
    host: str
    pid: int
    process_started_at: float
    capability: Capability
    progress: Progress
    started_at: float
    seen_at: float
    loaded_model: str | None = None
    sleep: str | None = None
    note: str | None = None


def register(
    connection: Connection,
    capability: Capability,
    *,
    name: str,
    pid: int,
    process_started_at: float,
    now: float,
) -> int:
    """Write a row for this process; returns the worker's id."""
    worker_id = connection.execute(
        sa.insert(workers)
        .values(
            name=name,
            state=WorkerState.LIVE,
            host=capability.host,
            pid=pid,
            process_started_at=process_started_at,
            device=capability.device,
            vram_class=capability.vram_class,
            capability=msgspec.json.encode(capability).decode(),
            started_at=now,
            seen_at=now,
            kind=capability.kind,
            vram_bytes=capability.vram_bytes,
            ram_bytes=capability.ram_bytes,
            threads=capability.threads,
        )
        .returning(workers.c.id)
    ).scalar_one()
    record(connection, Entity.WORKER, worker_id, "register", now=now, detail=name)
    return int(worker_id)


def beat(connection: Connection, worker_id: int, progress: Progress, *, now: float) -> str:
    """Say that the worker lives, and what it is doing; returns the state it is in.

    One that was taken for gone (it was stopped for long, or cut off) is live again by this.
    """
    state = connection.execute(
        sa.update(workers)
        .where(workers.c.id == worker_id)
        .values(seen_at=now, progress=msgspec.json.encode(progress).decode())
        .returning(workers.c.state)
    ).scalar_one()
    if state == WorkerState.GONE:
        advance(connection, Entity.WORKER, worker_id, "rejoin", now=now)
        return WorkerState.LIVE
    return str(state)


def note_model(connection: Connection, worker_id: int, model: str | None) -> None:
    """Say which model the worker has loaded, or claimed work of last."""
    connection.execute(
        sa.update(workers).where(workers.c.id == worker_id).values(loaded_model=model)
    )


def drain(connection: Connection, worker_id: int, *, now: float, note: str | None = None) -> None:
    """Let the worker claim nothing more until it is woken."""
    advance(connection, Entity.WORKER, worker_id, "drain", now=now, detail=note, note=note)


def wake(connection: Connection, worker_id: int, *, now: float) -> None:
    """Let a drained worker claim again."""
    advance(connection, Entity.WORKER, worker_id, "wake", now=now, note=None)


def leave(connection: Connection, worker_id: int, *, now: float, detail: str | None = None) -> None:
    """Take the worker out of the fleet; its leases are the caller's to end."""
    advance(connection, Entity.WORKER, worker_id, "leave", now=now, detail=detail)


def present(connection: Connection, *, job_id: int | None = None) -> Iterator[Worker]:
    """Workers that have not left; with `job_id`, those that ever took a task of that job."""
    statement = sa.select(workers).order_by(workers.c.id)
    if job_id is None:
        statement = statement.where(workers.c.state != WorkerState.GONE)
    else:
        took = sa.select(tasks.c.worker_id).where(tasks.c.job_id == job_id)
        statement = statement.where(workers.c.id.in_(took))
    return (_worker(row) for row in connection.execute(statement))


def find(connection: Connection, reference: str) -> Worker:
    """The newest worker of that name, or else with that number; `NotFoundError` names some."""
    by_name = sa.select(workers).where(workers.c.name == reference)
    row = connection.execute(by_name.order_by(workers.c.id.desc()).limit(1)).first()
    if row is None and reference.isdecimal() and len(reference) <= _ID_DIGITS:
        row = connection.execute(sa.select(workers).where(workers.c.id == int(reference))).first()
    if row is None:
        known = [worker.name for worker in present(connection)][:5]
        said = f"there are: {', '.join(known)}" if known else "there are none"
        raise NotFoundError(
            f"no worker {reference!r}; {said}", hint="list them: rendermill workers"
        )
    return _worker(row)


def find_process(
    connection: Connection, *, host: str, pid: int, process_started_at: float
) -> Worker | None:
    """The worker that runs, or ran, as that process."""
    row = connection.execute(
        sa.select(workers).where(
            workers.c.host == host,
            workers.c.pid == pid,
            workers.c.process_started_at == process_started_at,
        )
    ).first()
    return _worker(row) if row else None


def _worker(row: sa.Row[tuple[object, ...]]) -> Worker:
    columns = row._mapping
    return Worker(
        id=columns["id"],
        name=columns["name"],
        state=columns["state"],
        host=columns["host"],
        pid=columns["pid"],
        process_started_at=columns["process_started_at"],
        capability=_CAPABILITY.decode(columns["capability"]),
        progress=_PROGRESS.decode(columns["progress"] or "{}"),
        started_at=columns["started_at"],
        seen_at=columns["seen_at"],
        loaded_model=columns["loaded_model"],
        sleep=columns["sleep"],
        note=columns["note"],
    )
