"""What doctor finds, fault by fault."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from scheduler.service import doctor
from scheduler.service.doctor import (
    Finding,
    Verdict,
    examine,
    rabbit_findings,
    redis_findings,
    server_findings,
)
from storage.db.engine import Ledger
from storage.opening import open_mill
from storage.settings import Connections

DATABASE = "postgresql://user:secret@127.0.0.1:1/mill"
BROKER = "amqp://user:secret@127.0.0.1:1//"


def of(part: str, found: Iterable[Finding]) -> list[Finding]:
    return [one for one in found if one.part == part]


def warnings(found: Iterable[Finding]) -> list[str]:
    return [one.said for one in found if one.verdict is Verdict.WARNING]


def test_a_home_that_is_well_has_nothing_against_it(tmp_path: Path) -> None:
    connections = Connections(home=tmp_path)
    open_mill(connections, create=True).close()

    found = examine(connections)

    assert {one.part for one in found} == {"ledger", "storage", "machine"}
    assert Verdict.BAD not in {one.verdict for one in found}


def test_looking_makes_nothing(tmp_path: Path) -> None:
    found = examine(Connections(home=tmp_path / "home"))

    assert Verdict.BAD not in {one.verdict for one in found}
    assert list(tmp_path.iterdir()) == []


def test_each_part_that_cannot_be_reached_is_said_with_what_to_do_and_no_secret(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    connections = Connections(
        home=tmp_path,
        database_url=DATABASE,
        broker_url=BROKER,
        storage_url=f"file://{tmp_path}/file/pictures",
    )

    found = examine(connections)

    bad = [one for one in found if one.verdict is Verdict.BAD]
    assert [one.part for one in bad] == ["ledger", "storage", "broker"]
    assert all(one.advice for one in bad)
    assert "secret" not in str(found)


def test_a_damaged_catalog_does_not_hide_the_other_parts(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_bytes(b"no database" * 1000)

    found = examine(Connections(home=tmp_path))

    assert [one.verdict for one in of("ledger", found)] == [Verdict.BAD]
    assert of("storage", found)
    assert of("machine", found)


def test_a_farm_that_keeps_pictures_in_each_machines_home_is_warned(tmp_path: Path) -> None:
    found = examine(Connections(home=tmp_path, database_url=DATABASE))

    (said,) = warnings(of("storage", found))
    assert "of each machine" in said


@pytest.mark.parametrize(("skew", "word"), [(100.0, "ahead of"), (-100.0, "behind")])
def test_a_clock_that_is_off_is_said(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, skew: float, word: str
) -> None:
    monkeypatch.setattr(ledger, "now", lambda: 1000.0)
    monkeypatch.setattr("scheduler.service.doctor.time.time", lambda: 1000.0 + skew)

    (found,) = doctor._clock(ledger)

    assert found.verdict is Verdict.WARNING
    assert f"100 s {word} the database's" in found.said


def test_a_clock_that_is_right_is_good(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "now", lambda: 1000.0)
    monkeypatch.setattr("scheduler.service.doctor.time.time", lambda: 1000.5)

    (found,) = doctor._clock(ledger)

    assert (found.verdict, found.said) == (Verdict.GOOD, "500 ms from the database's")


def test_a_farm_without_a_scheduler_is_warned(ledger: Ledger) -> None:
    (found,) = doctor._scheduler(ledger)

    assert (found.verdict, found.advice) == (Verdict.WARNING, "start one: rendermill scheduler")


@pytest.mark.parametrize(
    ("settings", "used", "said"),
    [
        ({"fsync": "on", "full_page_writes": "on", "max_connections": "100"}, 80, []),
        ({"fsync": "off"}, 1, ["fsync is off: a power cut may damage the database for good"]),
        ({"max_connections": "100"}, 81, ["81 of the server's 100 connections are taken"]),
        ({}, 1000, []),
    ],
)
def test_a_server_that_may_lose_data_or_is_crowded_is_said(
    settings: dict[str, str], used: int, said: list[str]
) -> None:
    assert warnings(server_findings(settings, used)) == said


SAFE = {
    "redis_version": "8.0",
    "config:maxmemory-policy": "noeviction",
    "config:appendonly": "yes",
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"config:maxmemory-policy": "allkeys-lru"}, "evicts keys"),
        ({"config:appendonly": "no"}, "no append-only file"),
        ({"config:maxmemory-policy": ""}, "does not tell its settings"),
    ],
)
def test_a_redis_that_may_lose_tickets_is_said(change: dict[str, str], said: str | None) -> None:
    found = list(redis_findings("redis://host", SAFE | change))

    assert found[0].said == "redis://host: Redis 8.0 answers"
    assert (
        [said in one for one in warnings(found)] == [True] * (said is not None)
        if said
        else (warnings(found) == [])
    )


@pytest.mark.parametrize(
    ("version", "warned"), [("3.10.8", True), ("3.12.0", False), ("4.1.2", False), ("?", False)]
)
def test_a_rabbitmq_without_consumer_timeouts_of_queues_is_said(version: str, warned: bool) -> None:
    found = list(rabbit_findings("amqp://host", {"product": "RabbitMQ", "version": version}))

    assert bool(warnings(found)) == warned


def test_a_nearly_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "FREE_BYTES", 2**62)

    assert warnings(of("machine", examine(Connections(home=tmp_path / "a" / "b"))))


def test_a_certificate_that_is_half_set_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RENDERMILL_C2PA_CERTIFICATE", str(tmp_path / "chain.pem"))

    found = of("signing", examine(Connections(home=tmp_path)))

    assert [one.verdict for one in found] == [Verdict.BAD]
    assert "RENDERMILL_C2PA_KEY is not" in found[0].said
