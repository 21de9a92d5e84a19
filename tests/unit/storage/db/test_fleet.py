"""The live workers, summed up."""

from __future__ import annotations

import pytest

from storage.contract.capability import Capability, Mode, Seen
from storage.contract.claims import FleetPart, Progress
from storage.db import fleet, profiles, workers
from storage.db.engine import Ledger
from storage.testing.factories import add_groups, add_worker, cut_task, make_capability

GIB = 1 << 30


def card(gib: int, host: str) -> Capability:
    return make_capability(
        device="cuda:0", kind=f"card {gib}", vram_bytes=gib * GIB, ram_bytes=64 * GIB, host=host
    )


@pytest.fixture
def ids(ledger: Ledger) -> list[int]:
    """Two cards of 8 GiB, one of 24, three CPUs of which one has much more memory."""
    capabilities = [
        card(8, "a"),
        card(8, "b"),
        card(24, "c"),
        make_capability(host="d"),
        make_capability(host="e", ram_bytes=8 * GIB + 5),
        make_capability(host="f", ram_bytes=64 * GIB),
    ]
    return [add_worker(ledger, one, pid=pid) for pid, one in enumerate(capabilities)]


def test_workers_of_one_kind_and_size_are_one_part(ledger: Ledger, ids: list[int]) -> None:
    sample = profiles.Sample(
        profile_key="p",
        mode="lean",
        device_kind="card 8",
        images=4,
        seconds=8,
        bytes=1,
        peak_bytes=1,
    )
    with ledger.write() as connection:
        profiles.add(connection, sample, now=1.0)
        workers.note_model(connection, ids[0], "m")
    with ledger.read() as connection:
        found = fleet.parts(connection, now=2.0)
    assert found == (
        FleetPart(kind="card 24", vram_bytes=24 * GIB, ram_bytes=64 * GIB, count=1),
        FleetPart(
            kind="card 8",
            vram_bytes=8 * GIB,
            ram_bytes=64 * GIB,
            count=2,
            seconds_per_image={"p": 2.0},
            seen={"p": (Seen(mode=Mode.LEAN, peak_bytes=1),)},
            loaded={"m": 1},
        ),
        FleetPart(kind="cpu/1", vram_bytes=0, ram_bytes=8 * GIB, count=2),
        FleetPart(kind="cpu/1", vram_bytes=0, ram_bytes=64 * GIB, count=1),
    )


def test_classes_tell_how_many_are_idle_and_leave_out_who_drains_or_left(
    ledger: Ledger, ids: list[int]
) -> None:
    add_groups(ledger, (9, 1))
    cut_task(ledger, ids[0])
    with ledger.write() as connection:
        workers.drain(connection, ids[3], now=2.0)
        workers.leave(connection, ids[4], now=2.0)
    with ledger.read() as connection:
        found = fleet.by_class(connection, now=2.0)
    assert {name: (one.live, one.idle) for name, one in found.items()} == {
        "cpu": (1, 1),
        "gpu8": (2, 1),
        "gpu24": (1, 1),
    }


def test_a_worker_that_was_not_heard_of_lately_is_not_counted_on(
    ledger: Ledger, ids: list[int]
) -> None:
    add_groups(ledger, (9, 1))
    cut_task(ledger, ids[0])
    with ledger.write() as connection:
        workers.beat(connection, ids[1], Progress(), now=100.0)
    with ledger.read() as connection:
        parts = fleet.parts(connection, now=100.0 + fleet.HEARD_SECONDS - 1)
        classes = fleet.by_class(connection, now=100.0 + fleet.HEARD_SECONDS - 1)
        later = fleet.parts(connection, now=100.0 + fleet.HEARD_SECONDS)
    assert [(part.kind, part.count) for part in parts] == [("card 8", 1)]
    assert {name: (one.live, one.idle) for name, one in classes.items()} == {"gpu8": (1, 1)}
    assert later == ()
