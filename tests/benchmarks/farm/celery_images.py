"""The farm everybody writes first: one Celery task per image.

As generous as can be: the task does nothing at all, and no result, row or file is kept. The
settings are Celery's own but for those that make no image get lost (``acks_late``). With
BENCH_ROWS, a PostgreSQL URL, it records its image in a table of two columns.
"""

from __future__ import annotations

import os
import time
from functools import cache
from typing import Any, Final

from celery import Celery

QUEUE: Final = "bench.images"

app: Final = Celery("images", broker=os.environ["BENCH_BROKER"])
app.conf.update(
    task_serializer="json",
    accept_content=["json"],
    task_ignore_result=True,
    task_acks_late=True,
    task_default_queue=QUEUE,
    worker_prefetch_multiplier=int(os.environ["BENCH_PREFETCH"]),
    broker_connection_retry_on_startup=True,
)


@app.task(name="bench.image")  # type: ignore[untyped-decorator]
def image(prompt: str, seed: int, mark: str | None = None) -> None:
    """Make one image of nothing; a `mark` is a file for the time when it was made."""
    if "BENCH_ROWS" in os.environ:
        _database().execute("INSERT INTO stock (prompt, seed) VALUES (%s, %s)", (prompt, seed))
    if mark is not None:
        with open(mark, "w") as file:
            file.write(repr(time.monotonic()))


@cache
def _database() -> Any:
    """This process's connection; every statement is a transaction."""
    import psycopg

    return psycopg.connect(os.environ["BENCH_ROWS"], autocommit=True)
