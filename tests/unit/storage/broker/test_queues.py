from __future__ import annotations

import pytest

from storage.broker.queues import DEAD, HOLD_SECONDS, all_queues, ticket_queue
from storage.contract.classes import VRAM_CLASSES


def test_there_is_one_queue_for_each_class_and_on_rabbitmq_one_for_the_dead() -> None:
    of_classes = [f"render.v1.{label}" for label in VRAM_CLASSES]

    assert [queue.name for queue in all_queues(redis=True)] == of_classes
    assert [queue.name for queue in all_queues(redis=False)] == [*of_classes, DEAD]


def test_a_queue_of_rabbitmq_is_replicated_bounded_and_ends_in_the_dead_one() -> None:
    arguments = ticket_queue("gpu8").queue_arguments

    assert arguments["x-queue-type"] == "quorum"
    assert arguments["x-consumer-timeout"] == HOLD_SECONDS * 1000
    assert arguments["x-delivery-limit"] > 0
    assert arguments["x-dead-letter-routing-key"] == DEAD


def test_redis_knows_no_arguments() -> None:
    assert ticket_queue("gpu8", redis=True).queue_arguments is None


def test_a_class_that_does_not_exist_has_no_queue() -> None:
    with pytest.raises(ValueError, match="no VRAM class 'gpu9'"):
        ticket_queue("gpu9")
