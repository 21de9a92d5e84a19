"""Two to sixteen worker processes on a renderer that sleeps."""

from __future__ import annotations

import time
from typing import Final

from tests.benchmarks.farm.parts import (
    Services,
    finish,
    load,
    row,
    start_workers,
    submit,
    took,
)

FLEETS: Final = (2, 4, 8, 16)
SECONDS: Final = 0.25
BATCH: Final = 4


def scaling(services: Services, images_each: int) -> None:
    """Wall time from the first claim to the last commit over that of bare loops that sleep.

    Start-up is left out. The bare loop is measured, not computed: it sleeps the same naps.
    """
    bare = _bare_loop(images_each)
    row("workers", "images", "bare loop, s", "farm, s", "farm / bare", "efficiency", "load")
    row(*["---"] * 7)
    with services.farm("RabbitMQ", null=1, sleep=SECONDS, batch=BATCH) as farm:
        farm.start("scheduler", "scheduler")
        running = 0
        for size in FLEETS:
            start_workers(farm, f"host-{size}", size - running)
            running = size
            submit(farm, f"warm-{size}", 2 * BATCH * size)  # everybody is measured afterwards
            finish(farm, f"warm-{size}", 120)
            submit(farm, f"job-{size}", images_each * size)
            finish(farm, f"job-{size}", 3 * bare + 120)
            seconds = took(farm, f"job-{size}")
            ratio = seconds / bare
            row(
                size,
                images_each * size,
                *(f"{bare:.2f}", f"{seconds:.2f}", f"{ratio:.4f}", f"{1 / ratio:.1%}", load()),
            )


def _bare_loop(images: int) -> float:
    started = time.monotonic()
    for _ in range(images // BATCH):
        time.sleep(SECONDS * BATCH)
    return time.monotonic() - started
