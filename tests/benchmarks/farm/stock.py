"""Running the stock Celery farm of `celery_images`, for comparing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
import psycopg
import sqlalchemy as sa

from tests.benchmarks.farm.parts import ROOT, Services

START_SECONDS: Final = 120.0

_PUBLISH: Final = """
import sys, time
from tests.benchmarks.farm.celery_images import QUEUE, app, image
images, folder = int(sys.argv[1]), sys.argv[2]
prompt = "a bronze astrolabe on a walnut desk, morning light, number {}"
with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
    image.apply_async((prompt.format(0), 0, folder + "/first"), producer=producer)
    started = time.monotonic()
    for number in range(images):
        image.apply_async((prompt.format(number), number), producer=producer)
    print(time.monotonic() - started)
    image.apply_async((prompt.format(0), 0, folder + "/last"), producer=producer)
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stock:
    """What came of a run: seconds for an image."""

    publishing: float
    working: float  #: of a queue that is full when the workers start

    @property
    def both(self) -> float:
        """One after the other, as with a farm that is given a manifest."""
        return self.publishing + self.working


def run_stock(
    services: Services,
    broker: str,
    *,
    images: int,
    processes: int,
    prefetch: int,
    database: str | None = None,
) -> Stock:
    """Publish and work off; with a `database`, each task records its image there.

    The clocks run from the first message to the last and from the first task to the last, so
    no start-up is in them.
    """
    folder = services.folder / f"stock-{time.monotonic_ns()}"
    folder.mkdir()
    environment = os.environ | {
        "BENCH_BROKER": services.broker(broker),
        "BENCH_PREFETCH": str(prefetch),
        "PYTHONPATH": str(ROOT),
    }
    if database is not None:
        environment["BENCH_ROWS"] = _with_table(database)
    published = subprocess.run(
        [sys.executable, "-c", _PUBLISH, str(images), str(folder)],
        env=environment, capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    command = ["-A", "tests.benchmarks.farm.celery_images", "worker", "-c", str(processes)]
    with open(folder / "worker.log", "w") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", *command, "--loglevel", "WARNING"],
            env=environment, stdout=log, stderr=log, cwd=folder, start_new_session=True,
        )  # fmt: skip
    try:
        _wait_for(folder / "last", worker)
    finally:
        _end(worker)
    first, last = (float((folder / name).read_text()) for name in ("first", "last"))
    return Stock(publishing=float(published.stdout) / images, working=(last - first) / images)


def _with_table(database: str) -> str:
    plain = sa.make_url(database).set(drivername="postgresql").render_as_string()
    statement = (
        "CREATE TABLE IF NOT EXISTS stock (id bigserial PRIMARY KEY, prompt text, seed bigint)"
    )
    with psycopg.connect(plain) as connection:
        connection.execute(statement)
    return plain


def _wait_for(file: Path, worker: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not file.exists() or not file.read_text():
        if worker.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"Celery does not get on:\n{(file.parent / 'worker.log').read_text()}")
        time.sleep(0.05)


def _end(worker: subprocess.Popen[bytes]) -> None:
    """All of its processes, by their ids."""
    parent = psutil.Process(worker.pid) if worker.poll() is None else None
    for process in [*(parent.children(recursive=True) if parent else ()), parent]:
        if process is not None and process.is_running():
            process.kill()
    worker.wait()
