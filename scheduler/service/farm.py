"""Use cases of running a farm: making its parts ready, and planning a machine's workers."""

from __future__ import annotations

from scheduler.service import processes
from scheduler.service.supervisors import DevicePlan
from storage.contract.states import WorkerState
from storage.db import workers
from storage.db.engine import Ledger
from storage.db.schema import HEAD, ensure_schema
from storage.opening import open_ledger, open_mill, open_store
from storage.settings import Connections, shown


def initialise(connections: Connections) -> dict[str, str]:
    """Make tables and queues, try the object store; what was done, by part.

    Safe to repeat. Raises the first part's error that does not work.
    """
    if not connections.is_farm:
        open_mill(connections, create=True).close()
        return {"home": f"{connections.home}: catalog at schema {HEAD}"}
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
    from storage.broker.tickets import Tickets

    tickets = Tickets(connections.broker_url)
    tickets.declare()
    tickets.close()
    done["broker"] = f"{tickets.where}: queues ready"
    return done


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
