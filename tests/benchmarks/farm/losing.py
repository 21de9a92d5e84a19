"""What losing every ticket costs a job, while it runs and while it begins."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from storage.broker.tickets import Tickets
from tests.benchmarks.farm.parts import (
    BROKERS,
    Services,
    finish,
    load,
    row,
    start_workers,
    submit,
)
from tests.services.farm import Farm

IMAGES: Final = 400
SECONDS: Final = 0.02
PURGE_SECONDS: Final = 3.0


def losing(services: Services, rounds: int) -> None:
    """Seconds from submitting to the end, undisturbed and with tickets lost.

    All tickets of the first turn that issues any are lost, while all workers are idle; and for
    three seconds from then on the queues are emptied without pause.
    """
    row("broker", "round", "undisturbed, s", "tickets lost, s", "delay, s", "load")
    row(*["---"] * 6)
    for broker in BROKERS:
        lossy = services.folder / f"lossy-{broker}"
        with services.farm(broker, null=1, sleep=SECONDS, batch=4, lossy=lossy) as farm:
            farm.start("scheduler", "scheduler")
            start_workers(farm, "two", 2)
            submit(farm, "warm", 40)
            finish(farm, "warm", 60)
            for turn in range(rounds):
                calm = _run(farm, f"calm-{turn}")
                lossy.touch()
                lost = _run(farm, f"lost-{turn}", partial(_lose, services, farm, broker, lossy))
                row(broker, turn + 1, *(f"{s:.2f}" for s in (calm, lost, lost - calm)), load())


def _lose(services: Services, farm: Farm, broker: str, lossy: Path) -> None:
    farm.wait_until(lambda: not lossy.exists(), "the loss of tickets")
    office = Tickets(services.broker(broker))
    stop = time.monotonic() + PURGE_SECONDS
    while time.monotonic() < stop:
        office.purge()
    office.close()


def _run(farm: Farm, name: str, meanwhile: Callable[[], None] = lambda: None) -> float:
    """Seconds from the moment the job is there to its end, by the database's clock."""
    submit(farm, name, IMAGES)
    meanwhile()
    finish(farm, name, 60)
    statement = "SELECT finished_at - created_at FROM jobs WHERE name = :name"
    ((seconds,),) = farm.query(statement, name=name)
    return float(seconds)
