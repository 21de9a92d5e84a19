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
from tests.benchmarks.farm.stock import run_stock

IMAGES: Final = 100_000
STOCK_IMAGES: Final = 4_000
PROCESSES: Final = 2
CHUNK: Final = 64
CHUNK_IMAGES: Final = 20_000


def throughput(services: Services, rounds: int) -> None:
    """Images/s against one Celery task per image, taking turns; ratios are round by round."""
    row("broker", "farm", "Celery, prefetch 4", "prefetch 1", "ratio to the better", "load")
    row(*["---"] * 6)
    for broker in BROKERS:
        with services.farm(broker, null=1) as farm:
            farm.start("scheduler", "scheduler")
            start_workers(farm, "two", PROCESSES)
            submit(farm, "warm", 2_000)
            finish(farm, "warm", 120)
            found = []
            for turn in range(rounds):
                submit(farm, f"job-{turn}", IMAGES)
                finish(farm, f"job-{turn}", 200)
                ours = IMAGES / took(farm, f"job-{turn}")
                theirs = [_stock(services, broker, prefetch) for prefetch in (4, 1)]
                found.append((ours, *theirs, ours / max(theirs)))
        medians = [statistics.median(column) for column in zip(*found, strict=True)]
        low, high = min(one[3] for one in found), max(one[3] for one in found)
        ratio = f"{medians[3]:.1f} ({low:.1f} to {high:.1f})"
        row(broker, *(f"{value:.0f}/s" for value in medians[:3]), ratio, load())


def _stock(services: Services, broker: str, prefetch: int) -> float:
    run = {"images": STOCK_IMAGES, "processes": PROCESSES, "prefetch": prefetch}
    return run_stock(services, broker, **run)[0]


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
