"""The program as its users run it: real processes on a home of their own."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

WAIT_SECONDS = 120.0


class Program:
    """Runs ``rendermill`` in a folder; its home is ``home`` there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.started: list[subprocess.Popen[str]] = []

    def command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-P", "-m", "scheduler", *map(str, arguments)]

    def environment(self) -> dict[str, str]:
        # The checkout is on no path of its own when the tests run on an installed wheel.
        return os.environ | {"RENDERMILL_HOME": str(self.home), "COLUMNS": "120"}

    def run(self, *arguments: str | Path, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run to the end; `code` is the exit code it must have."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS * 4,
            check=False,
        )
        assert code in (None, done.returncode), f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start and go on; it is killed at the end of the test if need be."""
        process = subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def json(self, *arguments: str | Path) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask the catalog directly; empty if it is not there yet."""
        if not (self.home / "catalog.db").exists():
            return []
        connection = sqlite3.connect(self.home / "catalog.db", timeout=30)
        try:
            return connection.execute(statement).fetchall()
        except sqlite3.OperationalError:
            return []
        finally:
            connection.close()

    def rows(self) -> int:
        """Image rows so far."""
        found = self.query("SELECT count(*) FROM images")
        return int(found[0][0]) if found else 0

    def workers(self) -> list[psutil.Process]:
        """Worker processes that run on this home now, supervisors left out."""
        return [p for p in self._processes() if "run" in p.cmdline()]

    def supervisors(self) -> list[psutil.Process]:
        """Supervisors that run on this home now."""
        return [p for p in self._processes() if "supervise" in p.cmdline()]

    def _processes(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            try:
                line = process.cmdline()
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
            if "workers" in line and str(self.home) in line:
                yield process

    def files(self, job: str) -> dict[str, bytes]:
        """The job's pictures by name."""
        return {p.name: p.read_bytes() for p in (self.home / "renders" / job).rglob("*.png")}

    def check(self, job: str, *, items: int) -> None:
        """Every item has one outcome, counters are right, rows have objects and the reverse."""
        ((done, failed, count, state),) = self.query(
            f"SELECT done, failed, item_count, state FROM jobs WHERE name = '{job}'"
        )
        assert (done + failed, count, state) == (items, items, "finished")
        rows = self.query(
            "SELECT item, outcome, object_key, bytes FROM images"
            f" WHERE job_id = (SELECT id FROM jobs WHERE name = '{job}') ORDER BY item"
        )
        assert [row[0] for row in rows] == list(range(items))
        assert sum(row[1] == "rendered" for row in rows) == done
        stored = {row[2]: row[3] for row in rows if row[2]}
        on_disk = {
            path.relative_to(self.home).as_posix(): path.stat().st_size
            for path in (self.home / "renders" / job).rglob("*")
            if path.is_file()
        }
        assert stored == on_disk
        assert self.query("SELECT count(*) FROM tasks WHERE state = 'leased'") == [(0,)]


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """The program in an empty folder; whatever it leaves running is killed."""
    made = Program(tmp_path)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
        process.communicate()
    for left in [*made.supervisors(), *made.workers()]:
        left.kill()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Look until `condition` holds; fails after a bound that only a fault can reach."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"still waiting for {what}"
        time.sleep(0.01)


@pytest.fixture(name="wait_until")
def _wait_until() -> Callable[[Callable[[], bool], str], None]:
    return wait_until
