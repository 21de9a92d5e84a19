"""A worker process built around the fake renderer, on a home."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from storage.contract.errors import LedgerUnavailable, SettingError
from storage.contract.states import WorkerState
from storage.db import jobs, vectors, workers
from storage.db.engine import Ledger, open_sqlite
from storage.db.workers import Worker
from storage.home import CATALOG, LOCKS
from storage.objects.folder import FolderStore
from storage.testing.factories import add_job
from workers import wiring
from workers.settings import WorkerSettings
from workers.stopping import Stop
from workers.wiring import Workshop, open_workshop


@pytest.fixture
def home(tmp_path: Path, migrated_catalog: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    shutil.copy(migrated_catalog, path / CATALOG)
    return path


@pytest.fixture
def ledger(home: Path) -> Iterator[Ledger]:
    """The home's ledger, as another process sees it."""
    opened = open_sqlite(home / CATALOG)
    yield opened
    opened.close()


@pytest.fixture
def settings(home: Path) -> WorkerSettings:
    return WorkerSettings(home=home, renderer="fake", name="studio", slot=1, sleep="00:00-00:00")


def the_worker(ledger: Ledger) -> Worker:
    with ledger.read() as connection:
        return workers.find(connection, "1")


def open_it(settings: WorkerSettings) -> Workshop:
    return open_workshop(settings, Stop())


def test_a_worker_registers_under_its_place_and_leaves_a_note(
    settings: WorkerSettings, ledger: Ledger, home: Path
) -> None:
    shop = open_it(settings)

    worker = the_worker(ledger)
    assert worker.name == "studio/cpu#1"
    assert worker.pid == os.getpid()
    assert worker.capability.kind == "fake/0", "its speed must not pass for the device's"
    assert (home / LOCKS / "cpu-1.worker").exists()
    assert (worker.state, worker.note) == (WorkerState.DRAINING, "asleep until 00:00")
    shop.close()


def test_it_signs_off_at_its_end_and_takes_the_note_away(
    settings: WorkerSettings, ledger: Ledger, home: Path
) -> None:
    open_it(settings).close()

    assert the_worker(ledger).state == WorkerState.GONE
    assert list((home / LOCKS).glob("*.worker")) == []


def test_where_the_ledger_is_away_at_its_end_the_note_stays_for_the_next_one(
    settings: WorkerSettings, ledger: Ledger, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = open_it(settings)

    def away(*_: Any, **__: Any) -> None:
        raise LedgerUnavailable("away")

    monkeypatch.setattr("workers.wiring.workers.leave", away)
    shop.close()

    assert the_worker(ledger).state != WorkerState.GONE
    assert len(list((home / LOCKS).glob("*.worker"))) == 1


def test_what_was_opened_is_closed_when_the_renderer_cannot_be_made(
    settings: WorkerSettings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no such device")

    monkeypatch.setattr(wiring, "_make_renderer", broken)

    with pytest.raises(RuntimeError, match="no such device"):
        open_it(settings)

    assert the_worker(ledger).state == WorkerState.GONE
    assert "heartbeat" not in {thread.name for thread in threading.enumerate()}


def test_a_worker_of_a_queue_registers_with_its_class(
    settings: WorkerSettings, ledger: Ledger
) -> None:
    import msgspec

    shop = open_it(msgspec.structs.replace(settings, vram_class="gpu12", vram_limit=9 << 30))

    capability = the_worker(ledger).capability
    assert (capability.vram_class, capability.vram_bytes) == ("gpu12", 9 << 30)
    shop.close()


def test_a_worker_of_one_job_renders_it_and_leaves(
    home: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(home)
    job = add_job(ledger, store)
    monkeypatch.setattr(wiring, "obey_signals", lambda *_: None)
    monkeypatch.setattr(wiring, "watch_parent", lambda *_: None)

    code = wiring.run_worker(WorkerSettings(home=home, renderer="fake", job_id=job.id))

    assert code == 0
    with ledger.read() as connection:
        found = jobs.get(connection, job.id)
    assert (found.done, found.ended) == (8, True)
    assert len(list((home / "renders").rglob("*.png"))) == 8


def test_a_lasting_worker_computes_vectors_with_the_model_its_environment_names(
    settings: WorkerSettings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RENDERMILL_EMBEDDING_MODEL", "wordllama")
    shop = open_it(settings)
    try:
        assert shop.idle is not None
        with ledger.read() as connection:
            assert [one.model for one in vectors.enabled(connection)] == ["wordllama"]
    finally:
        shop.close()


def test_a_worker_of_one_job_does_nothing_else(settings: WorkerSettings) -> None:
    shop = open_it(msgspec.structs.replace(settings, job_id=1))
    try:
        assert shop.idle is None
    finally:
        shop.close()


def test_a_certificate_that_cannot_sign_ends_the_worker_before_it_takes_work(
    settings: WorkerSettings, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_text("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n")
    key.write_text("-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n")
    monkeypatch.setenv("RENDERMILL_C2PA_CERTIFICATE", str(chain))
    monkeypatch.setenv("RENDERMILL_C2PA_KEY", str(key))

    with pytest.raises(SettingError, match="cannot sign"):
        open_it(settings)

    assert the_worker(ledger).state == WorkerState.GONE
