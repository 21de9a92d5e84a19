"""What can happen to a farm, and plans of it that are drawn from a seed alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tests.chaos.points import POINTS


class Victim(StrEnum):
    """Who is struck. At a named point, the first four belong to who is held there, if they can."""

    CHILD = "child"  #: Celery's child, which renders
    PARENT = "parent"  #: Celery's parent, which talks to the broker
    SUPERVISOR = "supervisor"
    WORKER = "worker"  #: all processes of a worker, as a power cut
    PROGRAM = "program"  #: the command that a person started; the rest must end by itself
    SCHEDULER = "scheduler"
    BROKER = "broker"
    DATABASE = "database"
    STORE = "store"
    FROZEN = "frozen"  #: the child is stopped past its lease, and wakes
    TICKETS = "tickets"  #: all that wait are lost


_WEIGHTS: Final = {
    Victim.CHILD: 5,
    Victim.PARENT: 3,
    Victim.SUPERVISOR: 2,
    Victim.WORKER: 3,
    Victim.PROGRAM: 1,
    Victim.SCHEDULER: 3,
    Victim.BROKER: 2,
    Victim.DATABASE: 2,
    Victim.STORE: 2,
    Victim.FROZEN: 3,
    Victim.TICKETS: 2,
}
_AT_A_POINT: Final = 0.5
"""How many of the faults strike at a named point, not just at any time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One blow."""

    victim: Victim
    point: str | None = None  #: None: at any time
    pick: float = 0.0  #: chooses among workers
    down: float = 0.0  #: seconds until a service starts again
    pause: float = 0.0  #: seconds before the next fault

    def __str__(self) -> str:
        return f"{self.victim}{f' {self.point}' if self.point else ''}"


def at_acks() -> list[Fault]:
    """Celery's parent dies before and after it gives back a ticket; for workers with time."""
    return [Fault(victim=Victim.PARENT, point=point) for point in POINTS if point.endswith("ack")]


def every_other_point(seed: int) -> list[Fault]:
    """Each other point with the process that gets there, then some with somebody else."""
    chance = random.Random(seed)
    publish = [point for point in POINTS if point.endswith("publish")]
    own = [point for point in POINTS if not point.endswith(("ack", "publish"))]
    others = [Victim.DATABASE, Victim.BROKER, Victim.FROZEN, Victim.WORKER]
    places = chance.sample(own, len(others) + 1)
    chance.shuffle(own)
    chance.shuffle(others)
    return [
        *(Fault(victim=Victim.SCHEDULER, point=point) for point in publish),
        *(Fault(victim=Victim.CHILD, point=point) for point in own),
        # The store comes last: it takes long to start, and nobody gets far without it.
        *(
            Fault(victim=victim, point=point, down=chance.uniform(0.1, 1.0))
            for victim, point in zip([*others, Victim.STORE], places, strict=True)
        ),
    ]


def at_random(seed: int, pause: float) -> Iterator[Fault]:
    """Faults without end, `pause` seconds apart on average."""
    chance = random.Random(seed)
    victims, weights = list(_WEIGHTS), list(_WEIGHTS.values())
    while True:
        yield Fault(
            victim=chance.choices(victims, weights)[0],
            point=chance.choice(POINTS) if chance.random() < _AT_A_POINT else None,
            pick=chance.random(),
            down=chance.uniform(0.0, 3.0),
            pause=chance.uniform(0.5, 1.5) * pause,
        )
