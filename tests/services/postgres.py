"""PostgreSQL for tests: databases on the local server, and private servers that may be stopped.

The local server is that of ``TEST_POSTGRES_URL`` (a URL of its maintenance database), or
else the one on port 5432. Where there is none, tests that need it are skipped, and fail in CI.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from storage.db import tables
from storage.db.engine import Ledger, open_postgres
from storage.db.schema import ensure_schema

SERVER = os.environ.get(
    "TEST_POSTGRES_URL", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"
)


def missing(service: str, why: str) -> None:
    """Skip for want of a service; where it must be there, fail."""
    message = f"{service} is needed: {why}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def postgres_server() -> sa.Engine:
    """The maintenance database of the local server."""
    engine = sa.create_engine(
        SERVER,
        isolation_level="AUTOCOMMIT",
        connect_args={"connect_timeout": 5},
        poolclass=sa.NullPool,
    )
    try:
        with engine.connect():
            return engine
    except sa.exc.OperationalError as error:
        missing("PostgreSQL", str(error.orig).splitlines()[0])
        raise


@pytest.fixture(scope="session")
def postgres_template(postgres_server: sa.Engine) -> Iterator[str]:
    """The URL of a migrated database without rows, to be copied or emptied again."""
    with database(postgres_server) as url:
        ledger = open_postgres(url)
        ensure_schema(ledger)
        ledger.close()
        yield url


@pytest.fixture
def postgres_url(postgres_server: sa.Engine) -> Iterator[str]:
    """The URL of a database of this test's own, without tables."""
    with database(postgres_server) as url:
        yield url


@pytest.fixture
def postgres_ledger(postgres_template: str) -> Iterator[Ledger]:
    """An empty ledger on PostgreSQL."""
    ledger = open_postgres(postgres_template)
    empty(ledger)
    yield ledger
    ledger.close()


@contextmanager
def database(server: sa.Engine) -> Iterator[str]:
    """The URL of a database that lives as long as the block."""
    name = f"rendermill_test_{uuid4().hex[:12]}"
    with server.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
        # Nobody cuts the power here.
        connection.execute(sa.text(f"ALTER DATABASE {name} SET synchronous_commit = off"))
    try:
        yield sa.make_url(SERVER).set(database=name).render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


@contextmanager
def migrated(server: sa.Engine) -> Iterator[Ledger]:
    """A ledger without rows that lives as long as the block."""
    with database(server) as url:
        ledger = open_postgres(url)
        ensure_schema(ledger)
        yield ledger
        ledger.close()


def empty(ledger: Ledger) -> None:
    """Take all rows out, and number new ones from 1 again.

    By deleting: truncating makes a file anew for each table and index, which takes longer than
    most tests.
    """
    everything = reversed(tables.metadata.sorted_tables)
    deletes = ";".join(f"DELETE FROM {table.name}" for table in everything)
    restarts = ";".join(
        f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), 1, false)"
        for table in tables.metadata.sorted_tables
        if "id" in table.c
    )
    with ledger.write() as connection:
        shelves = connection.execute(sa.select(tables.shelves.c.first_job)).scalars().all()
        for first in shelves:
            if first != 1:
                _drop_shelf(connection, first)
        driver: Any = connection.connection.driver_connection
        driver.execute(f"{deletes};{restarts}", prepare=False)
        first_shelf = {"first_job": 1, "stop_job": 1000, "item_count": 0}
        connection.execute(sa.insert(tables.shelves).values(**first_shelf))


def _drop_shelf(connection: sa.Connection, first: int) -> None:
    found = connection.exec_driver_sql(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'images'::regclass"
    )
    for name in found.scalars().all():
        if name.startswith(f"images_{first}_"):
            connection.exec_driver_sql(f"DROP TABLE {name}")


# --- Private servers ----------------------------------------------------------------------------


@dataclass(kw_only=True)
class PostgresServer:
    """A server of a test's own: with its data folder and port, to be stopped and started."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None)

    def url(self, database: str = "postgres") -> str:
        """Where `database` of this server is."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{database}"

    def make(self) -> None:
        """Write the data folder."""
        self.folder.mkdir(parents=True)
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        subprocess.run(
            [*_as_owner(), str(_binary("initdb")), "--auth=trust", "--username=postgres",
             "--no-sync", "--encoding=UTF8", "--locale=C", "-D", str(self.folder)],
            check=True, capture_output=True, cwd="/",
        )  # fmt: skip

    def start(self, *settings: str) -> None:
        """Start it, with further settings (``name=value``); returns when it answers."""
        options = [
            f"port={self.port}",
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={self.folder}",
            "max_connections=50",
            "shared_buffers=32MB",
            *settings,
        ]
        arguments = [part for option in options for part in ("-c", option)]
        self.process = subprocess.Popen(
            [*_as_owner(), str(_binary("postgres")), "-D", str(self.folder), *arguments],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", start_new_session=True,
        )  # fmt: skip
        self._wait_until_it_answers()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGTERM waits for clients, SIGINT cuts them off, SIGQUIT is a crash."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(60)
            self.process = None

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + 60
        ready = [str(_binary("pg_isready")), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode != 0:
            assert self.process is not None
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the private PostgreSQL in {self.folder} does not start")
            time.sleep(0.05)


@pytest.fixture
def private_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A private server, started; it may be stopped and started again."""
    need_binaries()
    base = Path("/tmp") if os.geteuid() == 0 else tmp_path_factory.mktemp("postgres")
    folder = base / f"rendermill-postgres-{uuid4().hex[:8]}"  # where the owner may enter, as root
    server = PostgresServer(folder=folder, port=free_port())
    try:
        server.make()
        server.start()
        yield server
    finally:
        server.stop(signal.SIGQUIT)
        shutil.rmtree(folder, ignore_errors=True)


def need_binaries() -> None:
    """Skip where no private server can be started; in CI, fail."""
    if _folder_of_binaries() is None:
        missing("PostgreSQL", "no initdb and postgres are installed here")


def free_port() -> int:
    """A port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _as_owner() -> list[str]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]


def _binary(name: str) -> Path:
    folder = _folder_of_binaries()
    assert folder is not None
    return folder / name


def _folder_of_binaries() -> Path | None:
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    found = shutil.which("postgres")
    return debian[-1].parent if debian else Path(found).parent if found else None
