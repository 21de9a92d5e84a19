"""The queues of tickets: one per VRAM class, with the same arguments whoever declares them.

Arguments of a queue cannot be changed once it exists; to change them is to change the names
(``render.v2.``) here and in `storage.contract.classes`.
"""

from __future__ import annotations

from typing import Any, Final

from kombu import Exchange, Queue

from storage.contract.classes import QUEUE_PREFIX, VRAM_CLASSES, queue_of

HOLD_SECONDS: Final = 3 * 3600
"""How long a ticket may be held unacknowledged. A worker holds one for minutes only; a broker
that gave up earlier would hand the same ticket out again and again."""

EXCHANGE: Final = Exchange(QUEUE_PREFIX.rstrip("."), type="direct", durable=True)
DEAD: Final = QUEUE_PREFIX + "dead"
"""Where tickets end that killed worker after worker, for a person to look at."""

DEAD_SECONDS: Final = 7 * 24 * 3600

_ARGUMENTS: Final[dict[str, Any]] = {
    "x-queue-type": "quorum",
    "x-consumer-timeout": HOLD_SECONDS * 1000,
    "x-delivery-limit": 20,
    "x-dead-letter-exchange": "",
    "x-dead-letter-routing-key": DEAD,
}


def ticket_queue(vram_class: str, *, redis: bool = False) -> Queue:
    """The queue whose tickets wake workers of that class. Redis knows no arguments."""
    name = queue_of(vram_class)
    arguments = None if redis else _ARGUMENTS
    return Queue(name, EXCHANGE, routing_key=name, durable=True, queue_arguments=arguments)


def dead_queue() -> Queue:
    """The queue of dead tickets."""
    arguments = {"x-queue-type": "quorum", "x-message-ttl": DEAD_SECONDS * 1000}
    return Queue(DEAD, durable=True, queue_arguments=arguments)


def all_queues(*, redis: bool) -> list[Queue]:
    """Every queue, for declaring them at once."""
    queues = [ticket_queue(label, redis=redis) for label in VRAM_CLASSES]
    return queues if redis else [*queues, dead_queue()]
