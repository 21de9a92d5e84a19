"""Tickets: published with confirms, and taken by a worker that claims for each."""

from __future__ import annotations

import statistics
import time

from storage.broker.tickets import Tickets
from tests.benchmarks.farm.parts import BROKERS, Services, load, row, start_workers, submit
from tests.services.farm import Farm

PUBLISHED = 1_000
CLAIMED = 400


def tickets(services: Services, rounds: int) -> None:
    """Per second and broker: tickets published; taken and found spare; taken with a claim.

    "With a claim" is a task of one item each, begun by one ticket each: the other end of the
    range from a farm's usual day, in which a ticket serves for minutes.
    """
    row("broker", "published/s", "spare, taken/s", "claim to claim, tasks/s", "load")
    row("---", "---", "---", "---", "---")
    for broker in BROKERS:
        published = [_published(services, broker) for _ in range(rounds)]
        with services.farm(broker, null=1, batch=1, chunk=1) as farm:
            start_workers(farm, "one", 1)
            spare = [_spare(services, farm, broker) for _ in range(rounds)]
            claimed = [_claimed(services, farm, broker, turn) for turn in range(rounds)]
        row(
            broker,
            *(f"{statistics.median(found):.0f}" for found in (published, spare, claimed)),
            load(),
        )


def _published(services: Services, broker: str) -> float:
    office = Tickets(services.broker(broker))
    office.declare()
    office.publish({"gpu8": 1})  # connects
    started = time.monotonic()
    office.publish({"gpu8": PUBLISHED})
    seconds = time.monotonic() - started
    office.purge()
    office.close()
    return PUBLISHED / seconds


def _spare(services: Services, farm: Farm, broker: str) -> float:
    """Tickets that find nothing to do, which is what a doubled one does."""
    office = Tickets(services.broker(broker))
    office.publish({"cpu": PUBLISHED})
    started, at_start = time.monotonic(), office.waiting()["cpu"]
    farm.wait_until(lambda: sum(office.waiting().values()) == 0, "the queue's end", seconds=120)
    office.close()
    return at_start / (time.monotonic() - started)


def _claimed(services: Services, farm: Farm, broker: str, turn: int) -> float:
    """Tasks of one item: claim, lease, start, commit and end of each."""
    name = f"claims-{turn}"
    submit(farm, name, CLAIMED)
    office = Tickets(services.broker(broker))
    started = time.monotonic()
    office.publish({"cpu": 1})
    farm.wait_until(lambda: farm.outcomes(name) == CLAIMED, name, seconds=120)
    office.close()
    return CLAIMED / (time.monotonic() - started)
