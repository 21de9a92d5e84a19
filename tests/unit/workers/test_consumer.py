"""The worker in Celery's child process, without Celery's pool."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from storage.contract.errors import (
    DeviceLost,
    LedgerUnavailable,
    RendermillError,
    SchemaMismatch,
    SettingError,
    StoreFull,
    StoreUnavailable,
)
from storage.db import groups, jobs
from storage.db.engine import Ledger
from storage.objects.memory import MemoryStore
from storage.testing.factories import add_job, cut_task, make_capability
from workers import consumer
from workers.claiming import Claimer
from workers.consumer import Child, consume
from workers.execute import Tools
from workers.settings import EXIT_SURROUNDINGS, WorkerSettings
from workers.stopping import Stop
from workers.wiring import Workshop

SETTINGS = WorkerSettings(home=Path("home"), renderer="fake")


class Ended(BaseException):
    """What a fake of ending the process raises, as nothing after it would run."""


class Waits(Stop):
    """A stop on which waiting takes no time; it is requested after so many waits."""

    def __init__(self, most: int = 100) -> None:
        super().__init__()
        self.waited: list[float] = []
        self._most = most

    def wait(self, seconds: float) -> bool:
        self.waited.append(seconds)
        if len(self.waited) >= self._most:
            self.drain(0.0, "enough")
        return self.requested


class Bench:
    """A child with a fake workshop, whose opening fails as told first."""

    def __init__(self, tools: Tools, ledger: Ledger, stop: Stop) -> None:
        self.tools = tools
        self.ledger = ledger
        self.codes: list[int] = []
        self.closed = 0
        self.opened = 0
        self.failures: list[Exception] = []
        self.slept: list[float] = []
        self.child = Child(SETTINGS, stop=stop, exit_process=self._exit, sleep=self.slept.append)

    def open(self, _settings: WorkerSettings, _stop: Stop) -> Workshop:
        self.opened += 1
        if self.failures:
            raise self.failures.pop(0)
        claimer = Claimer(self.ledger, self.tools.worker_id, make_capability(), job_id=None)
        from contextlib import ExitStack

        opened = ExitStack()
        opened.callback(self._close)
        return Workshop(tools=self.tools, claimer=claimer, opened=opened)

    def _close(self) -> None:
        self.closed += 1

    def _exit(self, code: int) -> NoReturn:
        self.codes.append(code)
        raise Ended


@pytest.fixture
def stop() -> Waits:
    return Waits()


@pytest.fixture
def bench(tools: Tools, ledger: Ledger, stop: Waits, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(tools, ledger, stop)
    monkeypatch.setattr(consumer, "open_workshop", made.open)
    return made


def raising(error: RendermillError) -> Callable[..., None]:
    def work(*_: Any, **__: Any) -> None:
        raise error

    return work


def test_a_ticket_is_worked_on_until_nothing_is_left_to_claim(
    bench: Bench, ledger: Ledger, store: MemoryStore
) -> None:
    job = add_job(ledger, store)

    bench.child.build()
    bench.child.serve()

    with ledger.read() as connection:
        assert jobs.get(connection, job.id).ended


def test_a_ticket_that_finds_nothing_ends_at_once(bench: Bench, stop: Waits) -> None:
    bench.child.build()

    bench.child.serve()

    assert stop.waited == []


def test_a_ledger_that_is_away_is_waited_for_with_growing_pauses(bench: Bench, stop: Waits) -> None:
    bench.failures = [LedgerUnavailable("away")] * 6

    bench.child.build()
    bench.child.serve()

    assert bench.opened == 7
    assert stop.waited == [1.0, 2.0, 5.0, 10.0, 30.0, 30.0]
    assert bench.codes == []


@pytest.mark.parametrize("error", [SchemaMismatch("old"), SettingError("wrong")])
def test_what_a_person_must_mend_is_tried_again_too(bench: Bench, error: RendermillError) -> None:
    bench.failures = [error]

    bench.child.build()
    bench.child.serve()

    assert bench.opened == 2


def test_pauses_begin_anew_after_the_trouble_is_over(
    bench: Bench, stop: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.failures = [LedgerUnavailable("away")] * 3
    bench.child.build()
    bench.child.serve()
    stop.waited.clear()
    monkeypatch.setattr(consumer, "work", raising(StoreUnavailable("away")))

    bench.child.serve()

    assert stop.waited == [1.0]


def test_a_worker_whose_store_is_away_holds_its_ticket_for_a_while_and_goes_on(
    bench: Bench, stop: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.child.build()
    bench.child.serve()
    monkeypatch.setattr(consumer, "work", raising(StoreUnavailable("away")))

    for _ in range(3):
        bench.child.serve()

    assert stop.waited == [1.0, 2.0, 5.0]
    assert (bench.codes, bench.closed) == ([], 0)


@pytest.mark.parametrize("error", [DeviceLost("gone"), StoreFull("full")])
def test_an_unfit_process_signs_off_and_ends_after_a_moment(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: RendermillError
) -> None:
    bench.child.build()
    bench.child.serve()
    monkeypatch.setattr(consumer, "work", raising(error))

    with pytest.raises(Ended):
        bench.child.serve()

    assert bench.codes == [EXIT_SURROUNDINGS]
    assert bench.closed == 1
    assert bench.slept == [consumer.UNFIT_SECONDS]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("error", [DeviceLost("gone"), RuntimeError("CUDA error")])
def test_a_process_that_cannot_have_its_device_ends_so_that_a_fresh_one_tries(
    bench: Bench, stop: Waits, error: Exception
) -> None:
    bench.failures = [error]

    bench.child.build()
    bench.child.serve()

    assert bench.codes == [EXIT_SURROUNDINGS]


def test_a_ticket_does_not_wait_for_ever_until_the_worker_is_built(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "TICKET_SECONDS", 0.0)

    bench.child.serve()  # nothing builds

    assert bench.opened == 0


def test_told_to_stop_it_gives_the_ticket_up(bench: Bench, stop: Waits) -> None:
    stop.drain(0.0, "test")

    bench.child.serve()

    assert bench.opened == 0


def test_it_signs_off_once(bench: Bench) -> None:
    bench.child.build()
    bench.child.serve()

    bench.child.close()
    bench.child.close()

    assert bench.closed == 1


def test_one_that_ends_while_it_is_built_signs_off_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slowly(settings: WorkerSettings, stop: Stop) -> Workshop:
        begun.set()
        assert go_on.wait(30)
        return bench.open(settings, stop)

    monkeypatch.setattr(consumer, "open_workshop", slowly)
    bench.child.build()
    assert begun.wait(30)
    closing = threading.Thread(target=bench.child.close)
    closing.start()
    go_on.set()
    closing.join(30)

    assert bench.closed == 1


def test_without_a_broker_there_is_nothing_to_consume() -> None:
    with pytest.raises(SettingError, match="RENDERMILL_BROKER_URL"):
        consume(SETTINGS)


@pytest.mark.parametrize(
    ("vram_limit", "queue"),
    [(None, "render.v1.cpu"), (8 << 30, "render.v1.gpu8"), (1 << 30, "render.v1.gpu4")],
)
def test_it_listens_to_its_classs_queue_alone_and_the_child_registers_with_that_class(
    monkeypatch: pytest.MonkeyPatch, vram_limit: int | None, queue: str
) -> None:
    heard: list[str] = []
    monkeypatch.setenv("RENDERMILL_DATABASE_URL", "postgresql://host/mill")
    monkeypatch.setenv("RENDERMILL_BROKER_URL", "amqp://host")
    monkeypatch.setenv(consumer.SETTINGS, "")
    monkeypatch.setattr(consumer, "_watch_supervisor", lambda: None)

    def run(_app: Any, name: str, _settings: WorkerSettings) -> int:
        heard.append(name)
        return 0

    monkeypatch.setattr(consumer, "_run_celery", run)

    consume(WorkerSettings(home=Path("home"), vram_limit=vram_limit))

    told = WorkerSettings.decode(os.environ[consumer.SETTINGS])
    assert heard == [queue]
    assert f"render.v1.{told.vram_class}" == queue


def test_children_hear_of_a_sigquit_before_celery_waits_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    monkeypatch.setattr(consumer, "_tell_children", lambda how: said.append(f"children: {how}"))
    before = signal.getsignal(signal.SIGQUIT)
    try:
        signal.signal(signal.SIGQUIT, lambda *_: said.append("celery"))
        consumer._hear_quit()
        consumer._hear_quit()  # connected again
        signal.raise_signal(signal.SIGQUIT)
    finally:
        signal.signal(signal.SIGQUIT, before)

    assert said == ["children: Cold", "celery"]


def test_what_a_fault_left_under_lease_goes_back_once_the_ledger_answers(
    bench: Bench,
    stop: Waits,
    ledger: Ledger,
    store: MemoryStore,
    tools: Tools,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = add_job(ledger, store)
    assert cut_task(ledger, tools.worker_id, items=job.item_count) is not None
    away = [LedgerUnavailable("away")] * 2
    write = ledger.write

    def sometimes() -> Any:
        if away:
            raise away.pop()
        return write()

    bench.child.build()
    monkeypatch.setattr(consumer, "work", raising(LedgerUnavailable("it went away")))
    monkeypatch.setattr(ledger, "write", sometimes)
    bench.child.serve()

    assert stop.waited == [1.0, 2.0, 5.0]
    with ledger.read() as connection:
        (group,) = groups.of_job(connection, job.id, limit=10)
    assert (group.claimable, group.leased) == (job.item_count, 0)
