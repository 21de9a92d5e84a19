"""``rendermill doctor``: each part of a mill looked at, and settings found that would bite."""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from scheduler.service import processes
from scheduler.service.health import is_scheduler_well
from storage.contract.errors import RendermillError
from storage.db import search_notes, vectors
from storage.db.engine import Ledger
from storage.db.schema import HEAD, check_schema
from storage.home import CATALOG
from storage.opening import open_ledger, open_store, open_tickets
from storage.settings import Connections, shown
from storage.signing import read_signer

CLOCK_SECONDS: Final = 2.0
FREE_BYTES: Final = 5 * 1024**3
OLD_RABBITMQ: Final = (3, 12)
CROWDED_SHARE: Final = 0.8


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
        ("signing", _signing),
    ]
    found: list[Finding] = []
    for part, check in checks:
        try:
            found.extend(check(connections))
        except RendermillError as error:
            found.append(
                Finding(part=part, verdict=Verdict.BAD, said=error.message, advice=error.hint)
            )
        except OSError as error:
            found.append(Finding(part=part, verdict=Verdict.BAD, said=str(error)))
    return found


def _ledger(connections: Connections) -> Iterator[Finding]:
    if not connections.is_farm and not (connections.home / CATALOG).exists():
        yield _good("ledger", f"no catalog yet in {connections.home}; the first render makes it")
        return
    ledger = open_ledger(connections)
    try:
        with ledger.read() as connection:
            version = _database_version(connection)
        yield _good("ledger", f"{ledger.where}: {version} answers")
        if connections.is_farm:
            yield from _server(ledger)
            yield from _clock(ledger)
            yield from _search(ledger)
            check_schema(ledger)
            yield _good("ledger", f"schema {HEAD}, which this version needs")
            yield from _scheduler(ledger)
        yield from _vectors(ledger)
    finally:
        ledger.close()


def _database_version(connection: sa.Connection) -> str:
    if connection.dialect.name == "sqlite":
        return f"SQLite {connection.exec_driver_sql('SELECT sqlite_version()').scalar()}"
    return f"PostgreSQL {connection.exec_driver_sql('SHOW server_version').scalar()}"


def _server(ledger: Ledger) -> Iterator[Finding]:
    """Settings of a PostgreSQL server by which a farm comes to harm."""
    with ledger.read() as connection:
        if connection.dialect.name != "postgresql":
            return
        rows = connection.exec_driver_sql(
            "SELECT name, setting FROM pg_settings"
            " WHERE name IN ('fsync', 'full_page_writes', 'max_connections')"
        )
        found = {row[0]: row[1] for row in rows}
        used = connection.exec_driver_sql("SELECT sum(numbackends) FROM pg_stat_database").scalar()
    yield from server_findings(found, int(used or 0))


def server_findings(settings: Mapping[str, str], connections_used: int) -> Iterator[Finding]:
    """What is to be said of a server's settings, and of how many connections it has left."""
    for name in ("fsync", "full_page_writes"):
        if settings.get(name) == "off":
            yield _warning(
                "ledger",
                f"{name} is off: a power cut may damage the database for good",
                f"set {name} = on",
            )
    most = int(settings.get("max_connections", "0"))
    if most and connections_used > most * CROWDED_SHARE:
        yield _warning(
            "ledger",
            f"{connections_used} of the server's {most} connections are taken",
            "raise max_connections (a worker holds up to four), or put PgBouncer before it",
        )


def _search(ledger: Ledger) -> Iterator[Finding]:
    """Whether parts of words are looked up by an index, and how far searching is behind."""
    with ledger.read() as connection:
        if not sa.inspect(connection).has_table("search_queue"):
            return
        behind = search_notes.lag(connection)
        found = connection.exec_driver_sql(
            "SELECT 1 FROM pg_class WHERE relname = 'ix_search_words_trigrams'"
        ).first()
    if found is None:
        yield _warning(
            "search",
            "pg_trgm was not there when the tables were made: searches for parts of words are"
            " slower",
            "CREATE EXTENSION pg_trgm; CREATE INDEX ix_search_words_trigrams ON search_words"
            " USING gin (value gin_trgm_ops)",
        )
    yield _good("search", f"up to {behind.items:,} images wait to be indexed")


def _scheduler(ledger: Ledger) -> Iterator[Finding]:
    well, said = is_scheduler_well(ledger)
    if well:
        yield _good("scheduler", said)
    else:
        yield _warning("scheduler", said, "start one: rendermill scheduler")


def _clock(ledger: Ledger) -> Iterator[Finding]:
    """A wrong clock here harms no lease, but confuses people who compare logs."""
    skew = time.time() - ledger.now()
    if abs(skew) <= CLOCK_SECONDS:
        yield _good("clock", f"{abs(skew) * 1000:.0f} ms from the database's")
        return
    yield _warning(
        "clock",
        f"this machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'}"
        " the database's",
        "set it by NTP; leases go by the database's clock and are safe,"
        " but S3 refuses requests of a clock that is 15 minutes off",
    )


def _storage(connections: Connections) -> Iterator[Finding]:
    if connections.is_farm and connections.storage_url is None:
        yield _warning(
            "storage",
            f"pictures go into the folder {connections.home} of each machine",
            "set RENDERMILL_STORAGE_URL to a bucket or a folder that all machines share",
        )
    if connections.storage_url is None and not connections.home.exists():
        return
    store = open_store(connections)
    try:
        warnings = store.check()
    finally:
        store.close()
    where = shown(connections.storage_url or "") or str(connections.home)
    yield _good("storage", f"{where}: objects can be listed, stored, read and deleted")
    for warning in warnings:
        yield _warning("storage", warning)


def _broker(connections: Connections) -> Iterator[Finding]:
    if connections.broker_url is None:
        if connections.is_farm:
            yield _good("broker", "none: workers look for work by themselves")
        return
    tickets = open_tickets(connections.broker_url)
    try:
        said = tickets.properties()
        findings = redis_findings if tickets.redis else rabbit_findings
        yield from findings(tickets.where, said)
        waiting = sum(tickets.waiting().values())
        tickets.declare()  # says if a queue has other arguments
        yield _good("broker", f"queues are there; {waiting} tickets wait")
        if dead := tickets.dead():
            yield _warning(
                "broker",
                f"{dead} tickets were given up: worker after worker died, or was unfit, with them",
                "see the workers' logs; no work is lost by it",
            )
    finally:
        tickets.close()


def redis_findings(where: str, said: Mapping[str, Any]) -> Iterator[Finding]:
    """What is to be said of a Redis that says this of itself."""
    yield _good("broker", f"{where}: Redis {said.get('redis_version')} answers")
    policy = said.get("config:maxmemory-policy", "")
    if not policy:
        yield _warning("broker", "this Redis does not tell its settings", _REDIS_SETTINGS)
    elif policy != "noeviction":
        yield _warning(
            "broker",
            f"Redis evicts keys when memory is short ({policy}); tickets would vanish",
            "set maxmemory-policy noeviction",
        )
    if said.get("config:appendonly") == "no":
        yield _warning(
            "broker",
            "Redis keeps no append-only file; a restart loses the tickets that wait",
            "nothing is lost but a second; set appendonly yes to be spared that",
        )


_REDIS_SETTINGS: Final = "see to it yourself that maxmemory-policy is noeviction, appendonly yes"


def rabbit_findings(where: str, said: Mapping[str, Any]) -> Iterator[Finding]:
    """What is to be said of a RabbitMQ that says this of itself."""
    version = str(said.get("version", "?"))
    yield _good("broker", f"{where}: {said.get('product', 'RabbitMQ')} {version} answers")
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if len(parts) == 2 and parts < OLD_RABBITMQ:
        yield _warning(
            "broker",
            f"RabbitMQ {version} does not know consumer timeouts of single queues",
            "tickets are held for minutes, the server's default of 30 will do;"
            " do not lower consumer_timeout below 15 minutes",
        )


def _machine(connections: Connections) -> Iterator[Finding]:
    yield _good("machine", f"devices: {', '.join(processes.devices())}; {processes.cores()} cores")
    if importlib.util.find_spec("torch") is None:
        yield _good("machine", "no PyTorch: it can steer and schedule, but not render")
    place = connections.home if connections.home.exists() else connections.home.absolute().parent
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    said = f"{free / 1024**3:.0f} GiB free at {connections.home}"
    if free >= FREE_BYTES:
        yield _good("machine", said)
        return
    yield _warning("machine", said, "models and pictures need room")


def _signing(_connections: Connections) -> Iterator[Finding]:
    """Said only of a machine that is to sign; what its certificate is worth, a worker finds."""
    signer = read_signer(os.environ)
    if signer is not None:
        stamps = f"time stamps from {signer.tsa_url}" if signer.tsa_url else "no time stamps"
        yield _good("signing", f"certificate and key for C2PA are there; {stamps}")


def _vectors(ledger: Ledger) -> Iterator[Finding]:
    """Said only where searching by meaning is on."""
    with ledger.read() as connection:
        if not sa.inspect(connection).has_table("embedders"):
            return
        kinds = vectors.enabled(connection)
        told = [vectors.status(connection, one, now=ledger.now()) for one in kinds]
    for one in told:
        said = f"{one.done:,} of {one.kind}s by {one.model}, {one.due + one.unseen:,} to come"
        yield _good("vectors", f"{said}; compared one by one, exactly, without an extension")
        if one.faults:
            yield _warning(
                "vectors",
                f"{one.faults:,} {one.kind}s could not be computed",
                "try them again: rendermill vectors build --retry",
            )


def _good(part: str, said: str) -> Finding:
    return Finding(part=part, verdict=Verdict.GOOD, said=said)


def _warning(part: str, said: str, advice: str | None = None) -> Finding:
    return Finding(part=part, verdict=Verdict.WARNING, said=said, advice=advice)
