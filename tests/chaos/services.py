"""Every service of a farm, each a private server that can be killed and started again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Literal, Protocol
from urllib.parse import urlsplit
from uuid import uuid4

import psutil

from tests.services.brokers import RabbitServer, RedisServer
from tests.services.postgres import PostgresServer, free_port
from tests.services.s3 import ENVIRONMENT, SeaweedFS

Broker = Literal["rabbitmq", "redis"]
BROKERS: Final[tuple[Broker, ...]] = ("rabbitmq", "redis")


class Service(Protocol):
    """What chaos does to a server."""

    def start(self) -> None:
        """Start it on its old ports and data; returns when it answers."""

    def kill(self) -> None:
        """End it at once."""


class Database(PostgresServer):
    """A PostgreSQL server whose every process can be killed at once."""

    __hash__ = object.__hash__  # there is only one of each

    def start(self, *settings: str) -> None:
        """As ever; without the note that a killed server leaves."""
        (self.folder / "postmaster.pid").unlink(missing_ok=True)
        super().start(*settings)

    def kill(self) -> None:
        """Kill the server and all that serve its clients, none of which can tidy up."""
        if self.process is None:
            return
        root = psutil.Process(self.process.pid)
        family = [root, *root.children(recursive=True)]
        root.suspend()  # it would start another for each that it sees die
        for one in reversed(family):
            one.kill()
        self.process.wait()
        psutil.wait_procs(family, timeout=10)
        self.process = None


class Services:
    """Broker, database and object store of one farm."""

    def __init__(self, broker: Server, database: Database, store: SeaweedFS) -> None:
        self.broker = broker
        self.database = database
        self.store = store
        self.bucket = ""

    @property
    def ports(self) -> list[int]:
        """Where they listen."""
        store = urlsplit(self.store.endpoint).port
        return [self.broker.port, self.database.port, int(store or 0)]

    @property
    def environment(self) -> dict[str, str]:
        """What the farm's programs are told."""
        return dict(ENVIRONMENT) | {
            "RENDERMILL_DATABASE_URL": self.database.url(),
            "RENDERMILL_BROKER_URL": self.broker.url,
            "RENDERMILL_STORAGE_URL": self.store.url(self.bucket, "farm"),
        }


Server = RabbitServer | RedisServer


@contextmanager
def services(folder: Path, broker: Broker) -> Iterator[Services]:
    """All services, running; they end with the block."""
    with ExitStack() as opened:
        made: Server = (RabbitServer if broker == "rabbitmq" else RedisServer)(folder / broker)
        store = SeaweedFS(folder / "seaweedfs")
        database = Database(folder=_database_folder(folder), port=free_port())
        opened.callback(shutil.rmtree, database.folder, ignore_errors=True)
        database.make()
        for one in (made, database, store):
            opened.callback(one.kill)
            one.start()
        found = Services(made, database, store)
        found.bucket = store.make_bucket("chaos")
        yield found


def _database_folder(folder: Path) -> Path:
    """PostgreSQL's own user, whom root becomes for it, must be able to enter."""
    name = f"rendermill-chaos-{uuid4().hex[:8]}"
    return Path("/tmp") / name if os.geteuid() == 0 else folder / name
