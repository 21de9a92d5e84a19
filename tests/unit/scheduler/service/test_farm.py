from __future__ import annotations

from pathlib import Path

import pytest

from scheduler.service import processes
from scheduler.service.farm import fleet_has_no_gpu, initialise, obstacles, plan_worker
from scheduler.service.supervisors import DevicePlan
from storage.contract.errors import BrokerUnavailable, LedgerUnavailable, StoreUnavailable
from storage.db import workers
from storage.db.engine import Ledger
from storage.home import CATALOG
from storage.settings import Connections
from storage.testing.factories import add_worker, make_capability


def test_a_home_is_made_ready_and_may_be_made_so_again(tmp_path: Path) -> None:
    connections = Connections(home=tmp_path / "home")

    assert initialise(connections) == initialise(connections)

    assert (tmp_path / "home" / CATALOG).is_file()


def test_a_farm_whose_database_is_away_is_not_begun(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailable, match="nothing answers there"):
        initialise(Connections(home=tmp_path, database_url="postgresql://u:secret@127.0.0.1:1/m"))


def test_what_keeps_workers_from_working_is_found_part_by_part(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    connections = Connections(
        home=tmp_path,
        database_url="postgresql://127.0.0.1:1/mill",
        broker_url="redis://127.0.0.1:1",
        storage_url=f"file://{tmp_path}/file",
    )

    found = list(obstacles(connections))

    assert [type(error) for error in found] == [
        LedgerUnavailable,
        StoreUnavailable,
        BrokerUnavailable,
    ]
    assert all(error.hint for error in found)


def test_a_card_gets_one_process_and_the_cpu_as_many_as_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "cores", lambda: 8)

    assert plan_worker(("cuda:0", "cpu"), None, None) == [
        DevicePlan(device="cuda:0"),
        DevicePlan(device="cpu", processes=1, threads=8),
    ]
    assert plan_worker(("cpu",), 3, None) == [DevicePlan(device="cpu", processes=3, threads=2)]
    assert plan_worker(("cpu",), 16, None) == [DevicePlan(device="cpu", processes=16, threads=1)]
    assert plan_worker(("cpu",), 2, 5) == [DevicePlan(device="cpu", processes=2, threads=5)]


def test_a_fleet_has_no_gpu_only_if_there_is_a_live_worker_and_none_has_one(
    ledger: Ledger,
) -> None:
    assert not fleet_has_no_gpu(ledger), "an empty fleet says nothing"
    add_worker(ledger)
    assert fleet_has_no_gpu(ledger)
    card = add_worker(ledger, make_capability(device="cuda:0", vram_bytes=8 << 30), pid=2)
    assert not fleet_has_no_gpu(ledger)
    with ledger.write() as connection:
        workers.leave(connection, card, now=2.0)
    assert fleet_has_no_gpu(ledger)
