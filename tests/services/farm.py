"""A farm for tests: its programs as real processes over real services."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from storage.db.engine import Ledger, open_postgres
from storage.objects.s3 import S3Store, open_s3

WAIT_SECONDS = 60.0


class Farm:
    """One farm's programs; whatever they leave running is killed at the end."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self._environment = dict(environment)
        self.programs: dict[str, subprocess.Popen[bytes]] = {}
        self.ledger: Ledger = open_postgres(environment["RENDERMILL_DATABASE_URL"])
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def store(self) -> S3Store:
        """The farm's object store; the tests must have its credentials."""
        return open_s3(self._environment["RENDERMILL_STORAGE_URL"])

    def environment(self, home: str) -> dict[str, str]:
        """What a program of that machine sees."""
        own = {"RENDERMILL_HOME": str(self.folder / home), "COLUMNS": "120"}
        return os.environ | self._environment | own

    def run(self, *arguments: str | Path, code: int | None = 0) -> str:
        """Run a command to its end; what it printed."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "scheduler", *map(str, arguments)],
            cwd=self.folder,
            env=self.environment("desk"),
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS,
            check=False,
        )
        assert code in (None, done.returncode), f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + (done.stderr if code else "")

    def json(self, *arguments: str | Path) -> Any:
        """What a command says to programs."""
        return json.loads(self.run(*arguments, "--json"))

    def start(
        self,
        name: str,
        *arguments: str,
        through: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a lasting program under that name, on a machine of that name.

        `through` is a command that runs the one after it.
        """
        with open(self.folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                [*through, sys.executable, "-P", "-m", "scheduler", *arguments],
                cwd=self.folder,
                env=self.environment(name) | dict(environment or {}),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.programs[name] = process
        return process

    def start_worker(
        self, name: str, vram_gib: float | None, seconds: float = 0.0, **how: Any
    ) -> None:
        """Start a worker of that size with the renderer that needs no model; `how`: `start`."""
        size = ["--vram-limit", str(vram_gib)] if vram_gib else []
        fake = ["--renderer", "fake", "--fake-seconds", str(seconds)]
        common = ["--device", "cpu", "--threads", "1", "--grace", "5", "--name", name]
        self.start(name, "worker", *common, *size, *fake, **how)

    def tree(self, name: str) -> list[psutil.Process]:
        """A program's processes, the program itself first."""
        try:
            root = psutil.Process(self.programs[name].pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kill(self, name: str) -> None:
        """End a program with all its processes at once, as a power cut would."""
        for process in self.tree(name):
            _kill(process)
        self.programs.pop(name).wait()

    def stop(self, name: str) -> int:
        """Ask a program to end; its exit code."""
        process = self.programs.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(WAIT_SECONDS)

    def close(self) -> None:
        """Kill everything."""
        for name in list(self.programs):
            self.kill(name)
        self.ledger.close()

    def query(self, statement: str, **values: Any) -> list[Any]:
        """Ask the ledger directly."""
        with self.ledger.read() as connection:
            return list(connection.execute(sa.text(statement), values))

    def outcomes(self, job: str) -> int:
        """Items of the job that have one."""
        found = self.query("SELECT done + failed FROM jobs WHERE name = :job", job=job)
        return int(found[0][0]) if found else 0

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float = 0.0) -> None:
        """Look until `condition` holds; fails after a bound that only a fault can reach."""
        deadline = time.monotonic() + (seconds or WAIT_SECONDS)
        while not condition():
            assert time.monotonic() < deadline, f"still waiting for {what}\n{self.said()}"
            time.sleep(0.05)

    def said(self) -> str:
        """The ends of all logs."""
        logs = [*self.folder.glob("*.log"), *self.folder.glob("*/logs/*.log")]
        tails = [f"--- {log}\n{log.read_text(errors='replace')[-1500:]}" for log in logs]
        return "\n".join(tails)

    def check(self, job: str, *, items: int) -> None:
        """Every item has one outcome, counters equal rows, rows have objects and the reverse."""
        ((job_id, done, failed, count, state),) = self.query(
            "SELECT id, done, failed, item_count, state FROM jobs WHERE name = :job", job=job
        )
        assert (done + failed, count, state) == (items, items, "finished")
        rows = self.query(
            "SELECT item, outcome, object_key, bytes FROM images WHERE job_id = :id ORDER BY item",
            id=job_id,
        )
        assert [row.item for row in rows] == list(range(items))
        assert sum(row.outcome == "rendered" for row in rows) == done
        ((group_done, group_failed, leased, claimable),) = self.query(
            "SELECT sum(done), sum(failed), sum(leased), sum(claimable) FROM groups"
            " WHERE job_id = :id",
            id=job_id,
        )
        assert (group_done, group_failed, leased, claimable) == (done, failed, 0, 0)
        assert self.query("SELECT 1 FROM tasks WHERE state = 'leased'") == []
        store = self.store
        recorded = {row.object_key: row.bytes for row in rows if row.object_key}
        stored = {key: store.size(key) for key in store.keys(f"renders/{job}/")}
        store.close()
        assert stored == recorded


@contextmanager
def farm_of(folder: Path, environment: Mapping[str, str]) -> Iterator[Farm]:
    """A farm that ends with the block; its tables, queues and bucket are made ready."""
    farm = Farm(folder, environment)
    try:
        farm.run("init")
        yield farm
    finally:
        farm.close()


def _kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill()
