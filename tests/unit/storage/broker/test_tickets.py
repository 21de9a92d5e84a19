"""Tickets on kombu's broker in memory; `tests/integration/broker` has the real ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from storage.broker.tickets import Tickets
from storage.contract.errors import BrokerUnavailable


@pytest.fixture
def tickets() -> Iterator[Tickets]:
    made = Tickets("memory://")
    made.declare()
    made.purge()
    yield made
    made.purge()
    made.close()


def test_what_is_published_waits_by_class(tickets: Tickets) -> None:
    assert tickets.publish({"cpu": 2, "gpu8": 1}) == 3

    waiting = tickets.waiting()

    assert {label: count for label, count in waiting.items() if count} == {"cpu": 2, "gpu8": 1}


def test_purging_drops_all_that_waits(tickets: Tickets) -> None:
    tickets.publish({"cpu": 2})

    assert tickets.purge() == 2
    assert not any(tickets.waiting().values())


def test_declaring_again_keeps_what_waits(tickets: Tickets) -> None:
    tickets.publish({"cpu": 1})

    tickets.declare()

    assert tickets.waiting()["cpu"] == 1


def test_after_closing_it_connects_anew(tickets: Tickets) -> None:
    tickets.publish({"cpu": 1})
    tickets.close()

    assert tickets.publish({"cpu": 1}) == 1


@pytest.mark.parametrize("url", ["amqp://user:secret@127.0.0.1:1//", "redis://:secret@127.0.0.1:1"])
def test_a_broker_that_is_not_there_is_said_without_its_secret(url: str) -> None:
    tickets = Tickets(url)

    with pytest.raises(BrokerUnavailable) as missing:
        tickets.waiting()

    assert "127.0.0.1:1" in missing.value.message
    assert "RENDERMILL_BROKER_URL" in (missing.value.hint or "")
    assert "secret" not in f"{missing.value.message} {missing.value.hint}"


def test_a_class_that_does_not_exist_is_a_fault_of_the_caller(tickets: Tickets) -> None:
    with pytest.raises(ValueError, match="gpu9"):
        tickets.publish({"gpu9": 1})
