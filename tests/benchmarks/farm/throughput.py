"""Null renderer and null store: what the farm itself can do, and what an image costs it."""

from __future__ import annotations

import statistics
from typing import Final

from tests.benchmarks.farm.parts import (
    BROKERS,
    Services,
    cpu_seconds,
    finish,
    load,
    row,
    start_workers,
    submit,
    took,
)
from tests.benchmarks.farm.stock import Stock, run_stock
from tests.services.farm import Farm

IMAGES: Final = 100_000
STOCK_IMAGES: Final = 4_000
PROCESSES: Final = 2
CHUNK: Final = 64
CHUNK_IMAGES: Final = 20_000


def throughput(services: Services, rounds: int) -> None:
    """Images/s against one Celery task per image, taking turns; ratios are round by round.

    Both have as many worker processes. Stock Celery's task does nothing, with the better of
    two prefetches; or inserts one row, which the farm does in any case. "In all" is submitting
    or publishing, and then the work.
    """
    row(
        "broker", "measured", "farm", "Celery, task empty", "ratio", "task inserts", "ratio", "load"
    )
    row(*["---"] * 8)
    for broker in BROKERS:
        with services.farm(broker, null=1) as farm:
            farm.start("scheduler", "scheduler")
            start_workers(farm, "two", PROCESSES)
            submit(farm, "warm", 2_000)
            finish(farm, "warm", 120)
            turns = [_turn(services, farm, broker, f"job-{turn}") for turn in range(rounds)]
        _show(broker, "work", [tuple(one.working for one in turn) for turn in turns])
        _show(broker, "in all", [tuple(one.both for one in turn) for turn in turns])


def _turn(services: Services, farm: Farm, broker: str, name: str) -> tuple[Stock, Stock, Stock]:
    """Seconds for an image of the farm, of empty tasks, and of tasks that insert."""
    submitting = submit(farm, name, IMAGES)
    finish(farm, name, 200)
    ours = Stock(publishing=submitting / IMAGES, working=took(farm, name) / IMAGES)
    url = farm.environment("desk")["RENDERMILL_DATABASE_URL"]

    def stock(prefetch: int, database: str | None = None) -> Stock:
        return run_stock(
            services,
            broker,
            images=STOCK_IMAGES,
            processes=PROCESSES,
            prefetch=prefetch,
            database=database,
        )

    empty = min((stock(4), stock(1)), key=lambda one: one.working)
    return ours, empty, stock(4, url)


def _show(broker: str, measured: str, turns: list[tuple[float, ...]]) -> None:
    ours, empty, inserting = (1 / statistics.median(column) for column in zip(*turns, strict=True))
    cells = [f"{ours:.0f}/s"]
    for column, speed in ((1, empty), (2, inserting)):
        ratios = [turn[column] / turn[0] for turn in turns]
        middle = statistics.median(ratios)
        cells += [f"{speed:.0f}/s", f"{middle:.0f} ({min(ratios):.0f} to {max(ratios):.0f})"]
    row(broker, measured, *cells, load())


def orchestration(services: Services, rounds: int) -> None:
    """CPU time of an image by process, in tasks of at most 64 images.

    Of all programs of the farm while a job runs: what they do when idle is in it too.
    """
    row("round", "child", "parent", "scheduler", "supervisor", "all, ms an image", "load")
    row(*["---"] * 7)
    with services.farm("RabbitMQ", null=1, chunk=CHUNK) as farm:
        farm.start("scheduler", "scheduler")
        start_workers(farm, "one", 1)
        submit(farm, "warm", 2_000)
        finish(farm, "warm", 120)
        for turn in range(rounds):
            submit(farm, f"job-{turn}", CHUNK_IMAGES)
            before = cpu_seconds(farm)
            # What was spent while the job was submitted is left out, with what it made.
            done = farm.outcomes(f"job-{turn}")
            finish(farm, f"job-{turn}", 120)
            after = cpu_seconds(farm)
            images = CHUNK_IMAGES - done
            spent = {part: (after[part] - before.get(part, 0.0)) * 1000 / images for part in after}
            parts = ("child", "parent", "scheduler", "supervisor")
            shown = (f"{spent.get(part, 0.0):.3f}" for part in parts)
            row(turn + 1, *shown, f"{sum(spent.values()):.3f}", load())
