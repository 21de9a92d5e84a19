"""Building one worker process from its settings, running it, and taking it down."""

from __future__ import annotations

import msgspec
import psutil
import structlog

from storage.contract.capability import Capability
from storage.contract.claims import Progress
from storage.contract.errors import Interrupted, LedgerError, StaleTransition
from storage.db import tasks, workers
from storage.db.engine import Ledger, open_sqlite
from storage.db.schema import ensure_schema
from storage.home import CATALOG
from storage.objects.folder import FolderStore
from workers.claiming import Claimer
from workers.engine.ports import Renderer
from workers.execute import Tools
from workers.heartbeat import Heartbeat
from workers.loop import work
from workers.probe import probe
from workers.settings import WorkerSettings
from workers.stopping import Stop, obey_signals, watch_parent

log = structlog.get_logger()


def run_worker(settings: WorkerSettings) -> None:
    """Run one worker until its job has ended or it is told to stop.

    Told to stop means SIGTERM (drain), SIGQUIT (at once), or the end of standard input, which
    is how a worker learns that its parent is gone.
    """
    stop = Stop()
    obey_signals(stop, settings.grace)
    watch_parent(stop, settings.grace)
    ledger = open_sqlite(settings.home / CATALOG)
    ensure_schema(ledger)
    capability = probe(settings.device, threads=settings.threads, home=settings.home)
    if settings.renderer == "fake":  # its speed must not pass for the device's
        capability = msgspec.structs.replace(capability, kind="fake")
    worker_id = _register(ledger, capability, settings)
    heartbeat = Heartbeat(ledger, worker_id, stop)
    heartbeat.start()
    try:
        heartbeat.tell(Progress(phase="starting"))
        tools = Tools(
            ledger=ledger,
            store=FolderStore(settings.home),
            renderer=_make_renderer(settings, capability),
            heartbeat=heartbeat,
            worker_id=worker_id,
            device_kind=capability.kind,
        )
        heartbeat.release()
        claimer = Claimer(ledger, worker_id, capability, job_id=settings.job_id)
        work(tools, claimer, stop, job_id=settings.job_id)
    except Interrupted as stopped:
        log.info("stopped while starting", action="stopped", why=stopped.message)
    finally:
        heartbeat.end()
        _leave(ledger, worker_id)
        ledger.close()


def _make_renderer(settings: WorkerSettings, capability: Capability) -> Renderer:
    if settings.renderer == "fake":
        from workers.engine.fake import FakeRenderer

        return FakeRenderer(settings.fake_seconds)
    import torch

    from workers.engine.diffusion import DiffusionRenderer

    torch.set_num_threads(settings.threads)
    return DiffusionRenderer(device=settings.device, kind=capability.kind, dtypes=capability.dtypes)


def _register(ledger: Ledger, capability: Capability, settings: WorkerSettings) -> int:
    process = psutil.Process()
    name = f"{capability.host}/{settings.device}"
    with ledger.write() as connection:
        return workers.register(
            connection,
            capability,
            name=f"{name}#{settings.slot}" if settings.slot else name,
            pid=process.pid,
            process_started_at=process.create_time(),
            now=ledger.now(),
        )


def _leave(ledger: Ledger, worker_id: int) -> None:
    """Sign off, handing back what may still be held; the lease's end does it otherwise."""
    try:
        with ledger.write() as connection:
            now = ledger.now()
            for ref in tasks.leased_by(connection, worker_id):
                tasks.hand_back(connection, ref, now=now)
            workers.leave(connection, worker_id, now=now)
    except StaleTransition:
        pass  # somebody took it for dead and signed it off
    except LedgerError as error:
        log.warning("cannot sign off", action="leave_failed", error=error.message)
