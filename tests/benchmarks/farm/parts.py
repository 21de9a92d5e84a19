"""What the farm's benchmarks stand on: private services, a farm with null parts, clocks."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import psutil
import sqlalchemy as sa

from storage.broker.tickets import Tickets
from tests.services.brokers import RabbitServer, RedisServer, Server
from tests.services.farm import Farm, farm_of
from tests.services.postgres import SERVER, database

BROKERS: Final = ("RabbitMQ", "Redis")
INSIDE: Final = Path(__file__).parent / "inside"
ROOT: Final = Path(__file__).parents[3]


class Services:
    """Brokers that are started when first asked for, and databases on the local PostgreSQL."""

    def __init__(self, folder: Path, held: ExitStack) -> None:
        self.folder = folder
        self._held = held
        self._brokers: dict[str, Server] = {}
        self._farms = 0

    def broker(self, name: str) -> str:
        """The URL of that broker."""
        if name not in self._brokers:
            kind = RabbitServer if name == "RabbitMQ" else RedisServer
            server = kind(self.folder / name.lower())
            self._held.callback(server.kill)
            server.start()
            self._brokers[name] = server
            if name == "Redis":  # as it comes, and as it is advised: not synced with every write
                with Tickets(server.url)._app.connection_for_write() as connection:
                    connection.default_channel.client.config_set("appendfsync", "everysec")
        return self._brokers[name].url

    @contextmanager
    def farm(self, broker: str, **variables: object) -> Iterator[Farm]:
        """A farm without programs, on an empty database; `variables` as in ``inside``."""
        self._farms += 1
        folder = self.folder / f"farm-{self._farms}"
        admin = sa.create_engine(SERVER, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with database(admin) as url:
            with admin.connect() as connection:  # the tests' speed-up is not for measuring
                name = sa.make_url(url).database
                connection.execute(sa.text(f"ALTER DATABASE {name} RESET synchronous_commit"))
            broker_url = self.broker(broker)
            Tickets(broker_url).declare()
            Tickets(broker_url).purge()
            environment = {
                "PYTHONPATH": f"{INSIDE}{os.pathsep}{ROOT}",
                "RENDERMILL_DATABASE_URL": url,
                "RENDERMILL_BROKER_URL": broker_url,
                "RENDERMILL_STORAGE_URL": f"file://{folder / 'objects'}",
                **{f"BENCH_{key.upper()}": str(value) for key, value in variables.items()},
            }
            with farm_of(folder, environment) as farm:
                yield farm


@contextmanager
def services() -> Iterator[Services]:
    """They end with the block."""
    with tempfile.TemporaryDirectory(prefix="rendermill-bench-") as folder, ExitStack() as held:
        yield Services(Path(folder), held)


def start_workers(farm: Farm, name: str, processes: int) -> None:
    """Start that many more worker processes, and wait until they are ready for tickets."""
    before = live(farm)
    common = ["--device", "cpu", "--threads", "1", "--renderer", "fake", "--name", name]
    farm.start(name, "worker", *common, "--processes", str(processes))
    farm.wait_until(lambda: live(farm) == before + processes, "the workers", seconds=240)


def live(farm: Farm) -> int:
    """Workers that are registered."""
    ((count,),) = farm.query("SELECT count(*) FROM workers WHERE state = 'live'")
    return int(count)


def submit(farm: Farm, name: str, items: int) -> float:
    """Submit that many items; the seconds it took."""
    file = farm.folder / f"{name}.txt"
    lines = (
        f"a bronze astrolabe on a walnut desk, morning light, number {n}\n" for n in range(items)
    )
    file.write_text("".join(lines))
    started = time.monotonic()
    farm.run("submit", file, "--name", name)
    return time.monotonic() - started


def finish(farm: Farm, name: str, seconds: float) -> None:
    """Wait until the job is done and its tasks have ended."""
    condition = "SELECT 1 FROM jobs WHERE name = :name AND state = 'finished'"
    farm.wait_until(lambda: farm.query(condition, name=name) != [], name, seconds=seconds)


def took(farm: Farm, name: str) -> float:
    """Seconds from the first claim to the last commit, by the database's clock."""
    ((first, last),) = farm.query(
        "SELECT min(tasks.claimed_at), max(jobs.finished_at) FROM tasks"
        " JOIN jobs ON jobs.id = tasks.job_id WHERE jobs.name = :name",
        name=name,
    )
    return float(last - first)


def cpu_seconds(farm: Farm) -> dict[str, float]:
    """CPU time of the farm's processes until now, by what they are."""
    spent: dict[str, float] = {}
    for name in farm.programs:
        for process in farm.tree(name):
            times = process.cpu_times()
            part = _part(process)
            spent[part] = spent.get(part, 0.0) + times.user + times.system
    return spent


def _part(process: psutil.Process) -> str:
    line = " ".join(process.cmdline())
    if "spawn_main" in line:
        return "child"
    if "resource_tracker" in line:
        return "other"
    for word, part in (("consume", "parent"), ("supervise", "supervisor"), ("scheduler", "")):
        if word in line:
            return part or ("scheduler" if line.endswith("scheduler") else "command")
    return "other"


def load() -> str:
    """The load average of the last minute, for beside a figure."""
    return f"{os.getloadavg()[0]:.1f}"


def row(*cells: Any) -> None:
    """One line of a Markdown table."""
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)
