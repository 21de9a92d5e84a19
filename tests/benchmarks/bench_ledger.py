"""What the ledger costs: claims, bulk rows against the bare driver, submitting.

    python -m tests.benchmarks.bench_ledger [--postgres URL] [--submit 1000000] [--claims 200]

Runs on SQLite in a folder of its own and, with a URL of a server's maintenance database, on
PostgreSQL in a database of its own. Ratios are of one run; prints a Markdown section.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from storage.contract.claims import ClaimedTask
from storage.db import images, jobs, profiles, tasks
from storage.db.engine import Ledger, open_postgres, open_sqlite
from storage.db.images import ImageRow
from storage.db.schema import ensure_schema
from storage.testing.factories import (
    add_groups,
    add_worker,
    cut_task,
    make_capability,
    make_image_row,
    make_requirements,
    make_spec,
)
from workers.claiming import Claimer

ROWS_PER_COMMIT = 5_000
COMMITS = 16


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--postgres", default=None)
    parser.add_argument("--submit", type=int, default=1_000_000)
    parser.add_argument("--claims", type=int, default=200)
    options = parser.parse_args()
    print("| what | database | result |\n| --- | --- | --- |")
    for name, opened in _databases(options.postgres):
        measures: tuple[Callable[[Ledger], None], ...] = (
            partial(bulk, name=name),
            partial(submit, name=name, items=options.submit),
            partial(claims, name=name, groups=1_000, items=10_000, count=options.claims),
            partial(claims, name=name, groups=100_000, items=1, count=options.claims),
        )
        for measure in measures:
            with opened() as ledger:
                ensure_schema(ledger)
                measure(ledger)


def row(what: str, database: str, result: str) -> None:
    """One line of the table."""
    print(f"| {what} | {database} | {result} |", flush=True)


def bulk(ledger: Ledger, *, name: str) -> None:
    """Recording images in bulk, against the bare driver into the same table, taking turns."""
    add_worker(ledger)
    add_groups(ledger, (2 * ROWS_PER_COMMIT * COMMITS, 1))
    task = cut_task(ledger, 1, items=1)
    assert task
    ours: list[float] = []
    bare: list[float] = []
    for turn in range(COMMITS):
        first = 2 * turn * ROWS_PER_COMMIT
        mine = partial(_insert, ledger, _rows(task, first))
        plain = [msgspec.structs.astuple(one) for one in _rows(task, first + ROWS_PER_COMMIT)]
        theirs = partial(_bare, ledger, plain)
        if turn % 2:  # whoever comes first finds the caches as the other left them
            bare.append(_timed(theirs))
            ours.append(_timed(mine))
        else:
            ours.append(_timed(mine))
            bare.append(_timed(theirs))
    ours, bare = ours[2:], bare[2:]  # those before opened connections and looked tables up
    ratios = sorted(theirs / mine for mine, theirs in zip(ours, bare, strict=True))
    fast, plain_fast = (ROWS_PER_COMMIT / statistics.median(times) for times in (ours, bare))
    what = "COPY, as text," if name == "PostgreSQL" else "executemany"
    row("images recorded in bulk", name, f"{fast:,.0f} rows/s")
    row(
        f"bare {what} into the same table",
        name,
        f"{plain_fast:,.0f} rows/s; ratio {statistics.median(ratios):.2f},"
        f" half of the turns {ratios[len(ratios) // 4]:.2f} to {ratios[-len(ratios) // 4]:.2f}",
    )


def _rows(task: ClaimedTask, first: int) -> list[ImageRow]:
    prompt = "a quiet harbour at dawn, fishing boats, mist over the water, long exposure"
    return [
        make_image_row(
            task,
            item,
            prompt=f"{prompt} {item}",
            sha256="0" * 64,
            render_key="1" * 32,
            rendering='{"mode":"cpu","dtype":"float32","device":"cpu/1","batch":4,"weights":"w"}',
            thumbnail_key=f"thumbnails/job/{item}.webp",
        )
        for item in range(first, first + ROWS_PER_COMMIT)
    ]


def _insert(ledger: Ledger, rows: list[ImageRow]) -> None:
    with ledger.write() as connection:
        images.insert(connection, rows)


def _bare(ledger: Ledger, rows: list[tuple[Any, ...]]) -> None:
    columns = ", ".join(f'"{name}"' for name in ImageRow.__struct_fields__)
    with ledger.write() as connection:
        driver: Any = connection.connection.driver_connection
        if ledger.engine.dialect.name == "postgresql":
            with (
                driver.cursor() as cursor,
                cursor.copy(f"COPY images ({columns}) FROM STDIN") as copy,
            ):
                for one in rows:
                    copy.write_row(one)
        else:
            marks = ", ".join("?" * len(ImageRow.__struct_fields__))
            driver.executemany(f"INSERT INTO images ({columns}) VALUES ({marks})", rows)


def submit(ledger: Ledger, *, name: str, items: int) -> None:
    """Writing a job: few rows, however many items; and one with a group for each item."""
    shards = [
        jobs.NewShard(first_item=first, item_count=5_000, object_key=f"jobs/t/{first}")
        for first in range(0, items, 5_000)
    ]
    whole = [_group(0, items)]
    seconds = _timed(lambda: _create(ledger, "large", items, whole, shards))
    row(
        f"submit {items:,} items in one group (the ledger's part)", name, f"{seconds * 1e3:,.0f} ms"
    )
    many = [_group(first, first + 1) for first in range(100_000)]
    seconds = _timed(lambda: _create(ledger, "many", len(many), many, []))
    row("submit 100,000 groups of one item", name, f"{seconds:.1f} s")


def _group(first: int, stop: int) -> jobs.NewGroup:
    return jobs.NewGroup(
        spec=make_spec(guidance_scale=float(first)),
        requirements=make_requirements(),
        first_item=first,
        stop_item=stop,
    )


def _create(
    ledger: Ledger,
    name: str,
    items: int,
    groups: list[jobs.NewGroup],
    shards: list[jobs.NewShard],
) -> None:
    new = jobs.NewJob(
        name=name, digest=name, token=name, manifest=name, settings="{}", item_count=items
    )
    with ledger.write() as connection:
        jobs.create(connection, new, groups, shards, now=1.0)


def claims(ledger: Ledger, *, name: str, groups: int, items: int, count: int) -> None:
    """Claims of one worker, one second an image, in a fleet of sixteen."""
    what = f"{groups:,} open groups, {groups * items:,} items"
    workers = [add_worker(ledger, pid=pid) for pid in range(16)]
    add_groups(ledger, *[(items, 1)] * groups)
    spec = make_spec(denoise=1)
    sample = profiles.Sample(
        profile_key=spec.profile_key,
        mode="cpu",
        device_kind="cpu/1",
        images=100,
        seconds=100.0,
        bytes=1,
        peak_bytes=1,
    )
    with ledger.write() as connection:
        profiles.add(connection, sample, now=1.0)
        if ledger.engine.dialect.name == "postgresql":
            connection.exec_driver_sql("ANALYZE")
    claimer = Claimer(ledger, workers[0], make_capability(), job_id=None)
    first = claimer.claim("starter")
    claimer.note_speed(first[0], 1.0)
    times: list[float] = []
    sizes: list[int] = []
    cpu = time.process_time()
    for _ in range(count):
        started = time.perf_counter()
        claimed = claimer.claim("starter")
        times.append(time.perf_counter() - started)
        sizes.append(sum(task.items for task in claimed))
    cpu = (time.process_time() - cpu) / count
    median, late = statistics.median(times), statistics.quantiles(times, n=20)[-1]
    row(
        f"claim, {what}",
        name,
        f"median {median * 1e3:.1f} ms, 95 % {late * 1e3:.1f} ms,"
        f" {cpu * 1e3:.1f} ms of the worker's CPU, {statistics.median(sizes):.0f} items a claim",
    )
    _finish_one(ledger, claimer, name, what)


def _finish_one(ledger: Ledger, claimer: Claimer, name: str, what: str) -> None:
    """Committing one task's images, all in one."""
    claimed = claimer.claim("starter")
    task = claimed[0]
    rows = [make_image_row(task, item) for item in range(task.first_item, task.stop_item)]
    ref = tasks.TaskRef(task.task_id, task.lease)

    def commit() -> None:
        with ledger.write() as connection:
            tasks.commit(connection, ref, rows, expires_at=1e12, now=3.0)

    row(f"commit of {len(rows)} images, {what}", name, f"{_timed(commit) * 1e3:.1f} ms")


def _timed(step: Callable[[], object]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def _databases(postgres: str | None) -> Iterator[tuple[str, Callable[[], Any]]]:
    yield "SQLite", _in_a_folder
    if postgres:
        yield "PostgreSQL", lambda: _on_a_server(postgres)


@contextmanager
def _in_a_folder() -> Iterator[Ledger]:
    with tempfile.TemporaryDirectory() as folder:
        ledger = open_sqlite(Path(folder) / "catalog.db")
        yield ledger
        ledger.close()


@contextmanager
def _on_a_server(url: str) -> Iterator[Ledger]:
    server = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    name = f"rendermill_bench_{time.time_ns()}"
    with server.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    try:
        own = sa.make_url(url).set(database=name).render_as_string(hide_password=False)
        ledger = open_postgres(own)
        yield ledger
        ledger.close()
    finally:
        with server.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


if __name__ == "__main__":
    main()
