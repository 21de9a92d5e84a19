"""``rendermill doctor``: each part of a mill looked at, and settings found that would bite."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from scheduler.service import processes
from scheduler.service.health import is_scheduler_well
from storage.contract.errors import RendermillError
from storage.db.engine import Ledger
from storage.db.schema import HEAD, check_schema
from storage.opening import open_ledger, open_store
from storage.settings import Connections

CLOCK_SECONDS: Final = 2.0
FREE_BYTES: Final = 5 * 1024**3
OLD_RABBITMQ: Final = (3, 12)


class Verdict(StrEnum):
    """How much a finding matters."""

    GOOD = "good"
    WARNING = "warning"  #: works, but will bite
    BAD = "bad"  #: does not work


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing looked at."""

    part: str
    verdict: Verdict
    said: str
    advice: str | None = None


def examine(connections: Connections) -> list[Finding]:
    """Look at every part; an unreachable one is a finding, not an error."""
    checks: list[tuple[str, Callable[[Connections], Iterator[Finding]]]] = [
        ("ledger", _ledger),
        ("storage", _storage),
        ("broker", _broker),
        ("machine", _machine),
    ]
    found: list[Finding] = []
    for part, check in checks:
        try:
            found.extend(check(connections))
        except RendermillError as error:
            found.append(
                Finding(part=part, verdict=Verdict.BAD, said=error.message, advice=error.hint)
            )
    return found


def _ledger(connections: Connections) -> Iterator[Finding]:
    if not connections.is_farm and not connections.home.exists():
        yield _good("ledger", f"no home yet at {connections.home}; the first render makes it")
        return
    ledger = open_ledger(connections)
    try:
        with ledger.read() as connection:
            version = _database_version(connection)
        yield _good("ledger", f"{ledger.where}: {version} answers")
        if connections.is_farm:
            yield from _clock(ledger)
            check_schema(ledger)
            yield _good("ledger", f"schema {HEAD}, which this version needs")
            well, said = is_scheduler_well(ledger)
            advice = None if well else "start one: rendermill scheduler"
            verdict = Verdict.GOOD if well else Verdict.WARNING
            yield Finding(part="scheduler", verdict=verdict, said=said, advice=advice)
    finally:
        ledger.close()


def _database_version(connection: sa.Connection) -> str:
    if connection.dialect.name == "sqlite":
        return f"SQLite {connection.exec_driver_sql('SELECT sqlite_version()').scalar()}"
    return f"PostgreSQL {connection.exec_driver_sql('SHOW server_version').scalar()}"


def _clock(ledger: Ledger) -> Iterator[Finding]:
    """A wrong clock here harms no lease, but confuses people who compare logs."""
    skew = time.time() - ledger.now()
    if abs(skew) <= CLOCK_SECONDS:
        yield _good("clock", f"{abs(skew) * 1000:.0f} ms from the database's")
        return
    yield Finding(
        part="clock",
        verdict=Verdict.WARNING,
        said=f"this machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'}"
        " the database's",
        advice="set it by NTP; leases go by the database's clock and are safe,"
        " but S3 refuses requests of a clock that is 15 minutes off",
    )


def _storage(connections: Connections) -> Iterator[Finding]:
    if connections.storage_url is None and not connections.home.exists():
        return
    store = open_store(connections)
    warnings = store.check()
    yield _good("storage", "objects can be listed, stored, read and deleted")
    for warning in warnings:
        yield Finding(part="storage", verdict=Verdict.WARNING, said=warning)
    if connections.is_farm and connections.storage_url is None:
        yield Finding(
            part="storage",
            verdict=Verdict.WARNING,
            said=f"pictures go into the folder {connections.home} of each machine",
            advice="set RENDERMILL_STORAGE_URL to a bucket or a folder that all machines share",
        )


def _broker(connections: Connections) -> Iterator[Finding]:
    if connections.broker_url is None:
        if connections.is_farm:
            yield _good("broker", "none: workers look for work by themselves")
        return
    from storage.broker.tickets import Tickets

    tickets = Tickets(connections.broker_url)
    try:
        said = tickets.properties()
        yield from (
            _redis_findings(tickets.where, said)
            if tickets.redis
            else _rabbit_findings(tickets.where, said)
        )
        waiting = sum(tickets.waiting().values())
        tickets.declare()  # says if a queue has other arguments
        yield _good("broker", f"queues are there; {waiting} tickets wait")
    finally:
        tickets.close()


def _redis_findings(where: str, said: dict[str, Any]) -> Iterator[Finding]:
    yield _good("broker", f"{where}: Redis {said.get('redis_version')} answers")
    policy = said.get("config:maxmemory-policy", "")
    if policy and policy != "noeviction":
        yield Finding(
            part="broker",
            verdict=Verdict.WARNING,
            said=f"Redis evicts keys when memory is short ({policy}); tickets would vanish",
            advice="set maxmemory-policy noeviction",
        )
    if said.get("config:appendonly") == "no":
        yield Finding(
            part="broker",
            verdict=Verdict.WARNING,
            said="Redis keeps no append-only file; a restart loses the tickets that wait",
            advice="nothing is lost but a second; set appendonly yes to be spared that",
        )


def _rabbit_findings(where: str, said: dict[str, Any]) -> Iterator[Finding]:
    version = str(said.get("version", "?"))
    yield _good("broker", f"{where}: {said.get('product', 'RabbitMQ')} {version} answers")
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if len(parts) == 2 and parts < OLD_RABBITMQ:
        yield Finding(
            part="broker",
            verdict=Verdict.WARNING,
            said=f"RabbitMQ {version} does not know consumer timeouts of single queues",
            advice="tickets are held for minutes, the server's default of 30 will do;"
            " do not lower consumer_timeout below 15 minutes",
        )


def _machine(connections: Connections) -> Iterator[Finding]:
    yield _good("machine", f"devices: {', '.join(processes.devices())}; {processes.cores()} cores")
    place = connections.home if connections.home.exists() else connections.home.absolute().parent
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    said = f"{free / 1024**3:.0f} GiB free at {connections.home}"
    if free >= FREE_BYTES:
        yield _good("machine", said)
        return
    yield Finding(
        part="machine", verdict=Verdict.WARNING, said=said, advice="models and pictures need room"
    )


def _good(part: str, said: str) -> Finding:
    return Finding(part=part, verdict=Verdict.GOOD, said=said)
