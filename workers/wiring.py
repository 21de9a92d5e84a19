"""Building one worker process from its settings, running it, and taking it down."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psutil
import structlog

from storage.contract.capability import Capability
from storage.contract.claims import Progress
from storage.contract.errors import Interrupted, LedgerError, StaleTransition
from storage.contract.states import JobState
from storage.db import jobs, tasks, workers
from storage.db.engine import Ledger
from storage.home import LOCKS
from storage.opening import open_mill
from storage.settings import read_connections
from workers import predecessor
from workers.claiming import Claimer
from workers.engine.ports import PictureSource, Renderer
from workers.engine.safety import Inspector
from workers.execute import Tools
from workers.heartbeat import BEAT_SECONDS, FARM_BEAT_SECONDS, Heartbeat
from workers.idle import MODEL, Embedding, enable_by_environment
from workers.inputs import StoredPictures
from workers.items import ItemReader
from workers.loop import work
from workers.output.signing import FileSigner, open_signer
from workers.probe import probe
from workers.settings import WorkerSettings
from workers.stopping import Stop, obey_signals, watch_parent

if TYPE_CHECKING:
    from workers.engine.devices import Device

log = structlog.get_logger()

UPLOADS = 8
"""Pictures a worker stores at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workshop:
    """A registered worker with all it works with."""

    tools: Tools
    claimer: Claimer
    opened: ExitStack
    idle: Embedding | None = None  #: None: it works for one job, and is not to outlast it

    def close(self) -> None:
        """Sign off, and let go of everything."""
        self.opened.close()


def run_worker(settings: WorkerSettings) -> int:
    """Run one worker, without a broker, until its job has ended or it is told to stop.

    Told to stop means SIGTERM (drain), SIGQUIT (at once), or the end of standard input, which
    is how a worker learns that its parent is gone.
    """
    stop = Stop()
    obey_signals(stop, settings.grace)
    watch_parent(stop, settings.grace)
    workshop: Workshop | None = None
    try:
        workshop = open_workshop(settings, stop)
        work(
            workshop.tools,
            workshop.claimer,
            stop,
            leave=_leaver(workshop.tools.ledger, settings.job_id),
            idle=workshop.idle,
        )
    except Interrupted as stopped:
        log.info("stopped while starting", action="stopped", why=stopped.message)
    finally:
        if workshop is not None:
            workshop.close()
    return 0


def open_workshop(settings: WorkerSettings, stop: Stop) -> Workshop:
    """Open ledger and store, look at the device, and register."""
    connections = read_connections(os.environ, settings.home)
    mill = open_mill(connections, create=True, threads=UPLOADS)
    opened = ExitStack()
    opened.callback(mill.close)
    with opened:
        capability = _capability(settings)
        note = settings.home / LOCKS / f"{settings.place}.worker"
        note.parent.mkdir(parents=True, exist_ok=True)
        predecessor.bury(note, mill.ledger)
        worker_id = _register(mill.ledger, capability, settings)
        opened.callback(_leave, mill.ledger, worker_id, note)
        predecessor.leave_note(note)
        heartbeat = Heartbeat(
            mill.ledger,
            worker_id,
            stop,
            seconds=FARM_BEAT_SECONDS if connections.is_farm else BEAT_SECONDS,
            sleep=settings.sleep,
        )
        heartbeat.start()
        opened.callback(heartbeat.end)
        heartbeat.tell(Progress(phase="starting"))
        sources = StoredPictures(mill.store)
        opened.callback(sources.close)
        renderer, room = _make_renderer(settings, capability, sources)
        reader = ItemReader(mill.ledger, mill.store)
        opened.callback(reader.close)
        tools = Tools(
            ledger=mill.ledger,
            store=mill.store,
            reader=reader,
            renderer=renderer,
            heartbeat=heartbeat,
            worker_id=worker_id,
            device_kind=capability.kind,
            inspector=_make_inspector(settings),
            signer=_make_signer(opened),
        )
        heartbeat.release()
        claimer = Claimer(mill.ledger, worker_id, capability, job_id=settings.job_id, room=room)
        idle = None
        if settings.job_id is None:
            enable_by_environment(mill.ledger, os.environ.get(MODEL))
            idle = Embedding(ledger=mill.ledger, store=mill.store)
        return Workshop(tools=tools, claimer=claimer, opened=opened.pop_all(), idle=idle)


def _leaver(ledger: Ledger, job_id: int | None) -> Callable[[], bool]:
    """Whether to leave when nothing can be claimed: once the worker's job needs no more work."""

    def leave() -> bool:
        if job_id is None:
            return False
        with ledger.read() as connection:
            return jobs.get(connection, job_id).state != JobState.OPEN

    return leave


def _capability(settings: WorkerSettings) -> Capability:
    capability = probe(
        settings.device,
        threads=settings.threads,
        home=settings.home,
        vram_limit=settings.vram_limit,
    )
    capability = msgspec.structs.replace(capability, queue_class=settings.vram_class)
    if settings.renderer == "diffusers" and settings.device == "cpu":
        from workers.engine.arithmetic import cpu_dtypes

        dtypes = cpu_dtypes(settings.home, processor=capability.name, threads=settings.threads)
        # Pictures of another dtype are of another kind of device.
        kind = capability.kind if dtypes[0] == "float32" else f"{capability.kind}/{dtypes[0]}"
        capability = msgspec.structs.replace(capability, kind=kind, dtypes=dtypes)
    if settings.renderer == "fake":  # its speed must not pass for the device's
        capability = msgspec.structs.replace(
            capability, kind=f"fake/{settings.fake_seconds:g}", name="fake renderer"
        )
    return capability


Room = Callable[[], int | None]
"""Tells how many bytes of its device the worker could have, if that is known."""


def _make_renderer(
    settings: WorkerSettings, capability: Capability, sources: PictureSource
) -> tuple[Renderer, Room]:
    if settings.renderer == "fake":
        from workers.engine.fake import FakeRenderer

        return FakeRenderer(settings.fake_seconds), lambda: None
    import torch

    from workers.engine.devices import open_device
    from workers.engine.diffusion import DiffusionRenderer

    torch.set_num_threads(settings.threads)
    device = open_device(settings.device, limit=settings.vram_limit)
    renderer = DiffusionRenderer(
        device=device, kind=capability.kind, dtypes=capability.dtypes, sources=sources
    )
    return renderer, device.room_bytes if device.has_own_memory else lambda: None


def _make_inspector(settings: WorkerSettings) -> Inspector:
    def device() -> Device:
        from workers.engine.devices import open_device

        return open_device(settings.device, limit=settings.vram_limit)

    return Inspector(device)


def _make_signer(opened: ExitStack) -> FileSigner | None:
    """A certificate that cannot sign ends the worker here, not a job later."""
    signer = open_signer(os.environ)
    if signer is not None:
        opened.callback(signer.close)
    return signer


def _register(ledger: Ledger, capability: Capability, settings: WorkerSettings) -> int:
    process = psutil.Process()
    name = f"{settings.name or capability.host}/{settings.device}"
    with ledger.write() as connection:
        return workers.register(
            connection,
            capability,
            name=f"{name}#{settings.slot}" if settings.slot else name,
            pid=process.pid,
            process_started_at=process.create_time(),
            now=ledger.now(),
        )


def _leave(ledger: Ledger, worker_id: int, note: Path) -> None:
    """Sign off, handing back what may still be held.

    Where the ledger is away the note stays, and the process that takes this one's place does it.
    """
    try:
        with ledger.write() as connection:
            now = ledger.now()
            with suppress(StaleTransition):  # somebody took it for dead and signed it off
                workers.leave(connection, worker_id, now=now)
            tasks.end_all(connection, worker_id, now=now)
    except LedgerError as error:
        log.warning("cannot sign off", action="leave_failed", error=error.message)
    else:
        predecessor.take_note_away(note)
