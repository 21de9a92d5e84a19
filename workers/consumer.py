"""A worker of a farm: Celery's parent process takes tickets, and its one child renders.

The parent loads no torch and opens no ledger, so nothing a renderer does can stop it from
talking to the broker. The child is the worker: it registers, beats, claims and renders like a
worker without a broker, but only while it holds a ticket.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import Any, Final

import psutil
import structlog
from celery import Celery, shared_task
from celery.signals import worker_process_init, worker_shutting_down

from storage.broker.app import WORK, make_app
from storage.broker.queues import ticket_queue
from storage.contract.errors import (
    DeviceLost,
    LedgerError,
    LedgerUnavailable,
    ObjectError,
    RendermillError,
    SettingError,
    StoreFull,
)
from storage.settings import BROKER_URL, read_connections
from workers.loop import work
from workers.probe import class_at
from workers.settings import EXIT_SURROUNDINGS, WorkerSettings
from workers.stopping import Stop, obey_signals, watch_parent_process
from workers.wiring import Workshop, open_workshop

SETTINGS: Final = "RENDERMILL_WORKER_SETTINGS"
"""Carries the settings from the parent to the child, which is born without its memory."""

TICKET_SECONDS: Final = 300.0
"""A ticket is worked on for this long at most, well below what brokers allow."""

PAUSE_SECONDS: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Between tries while ledger or object store are away."""

log = structlog.get_logger()


def consume(settings: WorkerSettings) -> int:
    """Take tickets until told to stop; the exit code. Runs in the main thread."""
    connections = read_connections(os.environ, settings.home)
    if connections.broker_url is None:
        raise SettingError(f"{BROKER_URL} is not set")
    vram_class = class_at(settings.device, settings.vram_limit)
    os.environ[SETTINGS] = settings.encode()
    app = make_app(connections.broker_url, imports=("workers.consumer",))
    _watch_supervisor()
    return _run_celery(app, ticket_queue(vram_class).name, settings)


def _run_celery(app: Celery, queue: str, settings: WorkerSettings) -> int:
    worker = app.Worker(
        hostname=f"{settings.place}-{os.getpid()}@%h",
        queues=[queue],
        pool_cls="prefork",
        concurrency=1,
        loglevel="WARNING",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


def _watch_supervisor() -> None:
    """Shut down when standard input ends: the supervisor held its other end, and is gone."""
    if sys.stdin is None or sys.stdin.isatty():
        return
    descriptor = sys.stdin.fileno()

    def wait() -> None:
        while os.read(descriptor, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="supervisor", daemon=True).start()


@worker_shutting_down.connect
def _tell_children(how: str = "Warm", **_said: Any) -> None:
    """Pass the news on: Celery waits for a child's task, but does not tell the child."""
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            child.send_signal(signal.SIGTERM if how.lower() == "warm" else signal.SIGQUIT)


class Child:
    """The worker in Celery's child process; builds itself in the background at birth."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._stop = Stop()
        self._ready = threading.Event()
        self._workshop: Workshop | None = None
        self._pauses = 0

    def start(self) -> None:
        """Begin to build; Celery gives a new process seconds only, torch needs more."""
        obey_signals(self._stop, self._settings.grace)
        watch_parent_process(self._stop, self._settings.grace)
        threading.Thread(target=self._build, name="build", daemon=True).start()

    def serve(self) -> None:
        """Work as long as there is something to claim, or the ticket's time is up."""
        while not self._ready.wait(0.1):
            if self._stop.requested:
                return
        shop = self._workshop
        if shop is None:
            return
        until = time.monotonic() + TICKET_SECONDS
        try:
            work(shop.tools, shop.claimer, self._stop, leave=lambda: True, until=until)
            self._pauses = 0
        except (StoreFull, DeviceLost) as error:
            self._end(error)
        except (LedgerError, ObjectError) as error:
            log.warning("cannot work", action="surroundings", error=error.message)
            self._pause()

    def close(self) -> None:
        """Sign off."""
        if self._workshop is not None:
            self._workshop.close()
            self._workshop = None

    def _build(self) -> None:
        while not self._stop.requested:
            try:
                self._workshop = open_workshop(self._settings, self._stop)
                self._ready.set()
                return
            except LedgerUnavailable as error:
                log.warning("waiting for the ledger", action="waiting", error=error.message)
                self._pause()
            except RendermillError as error:
                log.error("cannot start", action="refused", error=error.message, hint=error.hint)
                self._pauses = len(PAUSE_SECONDS) - 1
                self._pause()

    def _pause(self) -> None:
        self._stop.wait(PAUSE_SECONDS[min(self._pauses, len(PAUSE_SECONDS) - 1)])
        self._pauses += 1

    def _end(self, error: RendermillError) -> None:
        """End this process: a fresh one may do better, and the ticket goes to somebody else."""
        log.error("this process ends", action="unfit", error=error.message)
        self.close()
        self._stop.wait(PAUSE_SECONDS[1])
        os._exit(EXIT_SURROUNDINGS)


_child: Child | None = None


@worker_process_init.connect
def _be_born(**_said: object) -> None:
    global _child  # noqa: PLW0603 - Celery offers no other place for what a process owns
    _child = Child(WorkerSettings.decode(os.environ[SETTINGS]))
    _child.start()


@shared_task(name=WORK, ignore_result=True)
def work_ticket() -> None:
    """There is work this class can do."""
    if _child is not None:
        _child.serve()
