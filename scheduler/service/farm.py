"""Use cases of running a farm: making its parts ready, and planning a machine's workers."""

from __future__ import annotations

from collections.abc import Iterator

from scheduler.service import processes
from scheduler.service.supervisors import DevicePlan
from storage.contract.errors import RendermillError
from storage.contract.states import WorkerState
from storage.db import workers
from storage.db.engine import Ledger
from storage.db.schema import HEAD, check_schema, ensure_schema
from storage.opening import open_ledger, open_mill, open_store, open_tickets
from storage.settings import Connections, shown


def initialise(connections: Connections) -> dict[str, str]:
    """Make tables and queues, try the object store; what was done, by part.

    Safe to repeat. Raises the first part's error that does not work.
    """
    if not connections.is_farm:
        open_mill(connections, create=True).close()
        said = f"{connections.home}: catalog at schema {HEAD}"
        return {"home": said, "storage": _try_store(connections)}
    done = {}
    ledger = open_ledger(connections)
    try:
        ensure_schema(ledger)
        done["database"] = f"{ledger.where}: schema {HEAD}"
    finally:
        ledger.close()
    done["storage"] = _try_store(connections)
    if connections.broker_url is None:
        done["broker"] = "none: workers look for work by themselves, four times a second"
        return done
    _check_broker(connections)
    done["broker"] = f"{shown(connections.broker_url)}: queues ready"
    return done


def obstacles(connections: Connections) -> Iterator[RendermillError]:
    """What keeps this machine's workers from working for the farm, part by part."""
    for check in (_check_ledger, _try_store, _check_broker):
        try:
            check(connections)
        except RendermillError as error:
            yield error


def _check_ledger(connections: Connections) -> None:
    ledger = open_ledger(connections)
    try:
        check_schema(ledger)
    finally:
        ledger.close()


def _check_broker(connections: Connections) -> None:
    if connections.broker_url is None:
        return
    tickets = open_tickets(connections.broker_url)
    try:
        tickets.declare()  # as the workers will
    finally:
        tickets.close()


def plan_worker(
    devices: tuple[str, ...], count: int | None, threads: int | None
) -> list[DevicePlan]:
    """The worker processes of this machine: one per card, and on the CPU as many as are asked for.

    What will be rendered is not known yet, so a CPU worker gets all cores unless told otherwise.
    """
    return [
        DevicePlan(device=device)
        if device != "cpu"
        else DevicePlan(
            device=device,
            processes=count or 1,
            threads=threads or max(1, processes.cores() // (count or 1)),
        )
        for device in devices
    ]


def fleet_has_no_gpu(ledger: Ledger) -> bool:
    """Whether workers are live and none of them has a card: batches are then sized for CPUs."""
    with ledger.read() as connection:
        live = [w for w in workers.present(connection) if w.state == WorkerState.LIVE]
    return bool(live) and all(worker.capability.vram_bytes == 0 for worker in live)


def _try_store(connections: Connections) -> str:
    store = open_store(connections)
    try:
        store.check()
    finally:
        store.close()
    url = connections.storage_url
    where = shown(url) if url is not None else str(connections.home)
    return f"{where}: may be written, read and deleted"
