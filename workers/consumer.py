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
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, Final, NoReturn

import msgspec
import psutil
import structlog
from celery import Celery, shared_task
from celery.signals import (
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutting_down,
)

from storage.broker.app import WORK, make_app
from storage.broker.queues import ticket_queue
from storage.contract.errors import (
    DeviceLost,
    Interrupted,
    LedgerError,
    ObjectError,
    RendermillError,
    SettingError,
    StoreFull,
)
from storage.db import tasks
from storage.db.engine import Ledger
from storage.settings import BROKER_URL, read_connections
from workers.logs import configure_logs
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

UNFIT_SECONDS: Final = 5.0
"""Before an unfit process ends: its successor would claim, and fail, at once."""

READY_LOOK_SECONDS: Final = 0.1
BUILT_SECONDS: Final = 10.0

log = structlog.get_logger()


def consume(settings: WorkerSettings) -> int:
    """Take tickets until told to stop; the exit code. Runs in the main thread."""
    connections = read_connections(os.environ, settings.home)
    if connections.broker_url is None:
        raise SettingError(f"{BROKER_URL} is not set")
    vram_class = class_at(settings.device, settings.vram_limit)
    # The child must register with the class of this queue, also where less memory is free than
    # the card has: tickets go by what is registered.
    settings = msgspec.structs.replace(settings, vram_class=vram_class)
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


class _Quit:
    """Celery's handler of SIGQUIT, after the children are told.

    By itself Celery waits for their tasks first, and says a word only when that was in vain.
    """

    def __init__(self, celerys: Any) -> None:
        self._celerys = celerys

    def __call__(self, number: int, frame: FrameType | None) -> None:
        _tell_children("Cold")
        if callable(self._celerys):
            self._celerys(number, frame)


@worker_ready.connect
def _hear_quit(**_said: object) -> None:
    handler = signal.getsignal(signal.SIGQUIT)
    if not isinstance(handler, _Quit):  # the broker may be connected to again and again
        signal.signal(signal.SIGQUIT, _Quit(handler))


class Child:
    """The worker in Celery's child process; builds itself in the background at birth."""

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        stop: Stop | None = None,
        exit_process: Callable[[int], NoReturn] = os._exit,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._stop = stop or Stop()
        self._exit = exit_process
        self._sleep = sleep
        self._builder: threading.Thread | None = None
        self._ready = threading.Event()
        self._workshop: Workshop | None = None
        self._pauses = 0

    def start(self) -> None:
        """Begin to build; Celery gives a new process seconds only, torch needs more."""
        obey_signals(self._stop, self._settings.grace)
        watch_parent_process(self._stop, self._settings.grace)
        self.build()

    def build(self) -> None:
        """Begin to build in the background."""
        self._builder = threading.Thread(target=self._build, name="build", daemon=True)
        self._builder.start()

    def serve(self) -> None:
        """Work as long as there is something to claim, or the ticket's time is up."""
        until = time.monotonic() + TICKET_SECONDS
        while not self._ready.wait(READY_LOOK_SECONDS):
            if self._stop.requested or time.monotonic() >= until:
                return  # there will be another ticket when there is work and this is ready
        shop = self._workshop
        if shop is None:
            return
        try:
            work(
                shop.tools,
                shop.claimer,
                self._stop,
                leave=lambda: True,
                until=until,
                idle=shop.idle,
            )
            self._pauses = 0
        except (StoreFull, DeviceLost) as error:
            self._end(error.message)
        except (LedgerError, ObjectError) as error:
            log.warning("cannot work", action="surroundings", error=error.message)
            self._settle(shop.tools.ledger, shop.tools.worker_id, until)

    def _settle(self, ledger: Ledger, worker_id: int, until: float) -> None:
        """Hand back what the fault left under lease, once the ledger can be reached.

        This worker is alive and works on nothing; nobody else may take it before it lapses.
        """
        while True:
            self._pause()
            try:
                with ledger.write() as connection:
                    tasks.end_all(connection, worker_id, now=ledger.now())
                return
            except LedgerError as error:
                log.warning("cannot hand back", action="surroundings", error=error.message)
            if self._stop.requested or time.monotonic() >= until:
                return

    def close(self) -> None:
        """Sign off, also if it is still being built; safe to repeat."""
        self._stop.drain(0.0, "the process ends")
        if self._builder is not None and self._builder is not threading.current_thread():
            self._builder.join(BUILT_SECONDS)
        shop, self._workshop = self._workshop, None
        if shop is not None:
            shop.close()

    def _build(self) -> None:
        while not self._stop.requested and not self._try_to_build():
            pass

    def _try_to_build(self) -> bool:
        """Whether there is a workshop now; what waiting can mend is waited for."""
        try:
            self._workshop = open_workshop(self._settings, self._stop)
        except Interrupted:
            return False
        except DeviceLost as error:
            self._end(error.message)
        except RendermillError as error:
            log.warning("waiting", action="waiting", error=error.message, hint=error.hint)
            self._pause()
            return False
        except Exception as error:
            log.exception("cannot start", action="refused")
            self._end(f"{type(error).__name__}: {error}")
        self._pauses = 0
        self._ready.set()
        return True

    def _pause(self) -> None:
        self._stop.wait(PAUSE_SECONDS[min(self._pauses, len(PAUSE_SECONDS) - 1)])
        self._pauses += 1

    def _end(self, why: str) -> NoReturn:
        """End this process: a fresh one may do better, and the ticket goes to somebody else."""
        log.error("this process ends", action="unfit", error=why)
        stopped = self._stop.requested
        self.close()
        if not stopped:
            self._sleep(UNFIT_SECONDS)
        self._exit(EXIT_SURROUNDINGS)


_child: Child | None = None


@worker_process_init.connect
def _be_born(**_said: object) -> None:
    global _child  # noqa: PLW0603 - Celery offers no other place for what a process owns
    configure_logs()  # it was born without its parent's memory
    _child = Child(WorkerSettings.decode(os.environ[SETTINGS]))
    _child.start()


@worker_process_shutdown.connect
def _sign_off(**_said: object) -> None:
    """Leave the fleet; whoever is killed is signed off by its successor, or by the rescue."""
    if _child is not None:
        _child.close()


@shared_task(name=WORK, ignore_result=True)
def work_ticket() -> None:
    """There is work this class can do."""
    if _child is not None:
        _child.serve()
