from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from kombu import Connection, Queue

from storage.broker.queues import ticket_queue
from storage.broker.tickets import Tickets
from storage.contract.classes import VRAM_CLASSES, queue_of
from storage.contract.errors import BrokerUnavailable, SettingError
from tests.services.brokers import RabbitServer, RedisServer, Server

pytestmark = pytest.mark.slow


@pytest.fixture(params=["rabbitmq", "redis_server"])
def broker(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def tickets(broker: Server) -> Iterator[Tickets]:
    opened = Tickets(broker.url)
    opened.declare()
    opened.purge()
    yield opened
    opened.close()


def test_queues_can_be_made_again_and_again(tickets: Tickets) -> None:
    tickets.declare()
    assert tickets.waiting() == dict.fromkeys(VRAM_CLASSES, 0)


def test_tickets_wait_on_the_queue_of_their_class(tickets: Tickets) -> None:
    assert tickets.publish({"cpu": 2, "gpu8": 3}) == 5
    waiting = tickets.waiting()
    assert (waiting["cpu"], waiting["gpu8"], waiting["gpu80"]) == (2, 3, 0)


def test_purging_leaves_no_ticket(tickets: Tickets) -> None:
    tickets.publish({"cpu": 2, "gpu8": 3})
    assert tickets.purge() == 5
    assert sum(tickets.waiting().values()) == 0


def test_a_broker_that_restarts_is_found_again_with_its_tickets(
    tickets: Tickets, broker: Server
) -> None:
    tickets.publish({"gpu8": 3})
    broker.kill()
    with pytest.raises(BrokerUnavailable):
        tickets.waiting()  # the connection it had broke
    with pytest.raises(BrokerUnavailable, match=r"(?i)connection refused"):
        tickets.waiting()
    broker.start()
    assert _soon(tickets, "gpu8") == 3
    assert tickets.publish({"gpu8": 1}) == 1


def _soon(tickets: Tickets, vram_class: str) -> int:
    """What waits there, once the queue's leader is elected and has counted."""
    deadline = time.monotonic() + 20
    while not (found := tickets.waiting()[vram_class]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def test_a_wrong_password_is_told_and_not_repeated(rabbitmq: RabbitServer) -> None:
    wrong = Tickets(rabbitmq.url.replace("guest:guest", "guest:hush"))
    with pytest.raises(BrokerUnavailable, match="refuses the user or password") as caught:
        wrong.waiting()
    assert "hush" not in str(caught.value)


def test_a_broker_without_our_queues_says_how_to_make_them(rabbitmq: RabbitServer) -> None:
    with Connection(rabbitmq.url) as connection:
        connection.channel().queue_delete(queue_of("gpu141"))
    with pytest.raises(BrokerUnavailable) as caught:
        Tickets(rabbitmq.url).waiting()
    assert caught.value.hint == "make the queues: rendermill init"


def test_a_queue_with_other_arguments_is_refused(rabbitmq: RabbitServer) -> None:
    name = queue_of("gpu48")
    with Connection(rabbitmq.url) as connection:
        channel = connection.channel()
        channel.queue_delete(name)
        Queue(name, durable=True)(channel).declare()
        with pytest.raises(SettingError, match="other arguments"):
            Tickets(rabbitmq.url).declare()
        connection.channel().queue_delete(name)
        ticket_queue("gpu48")(connection.channel()).declare()


def test_nothing_is_connected_before_it_is_used(redis_server: RedisServer) -> None:
    opened = Tickets(redis_server.url.replace(str(redis_server.port), "1"))
    opened.close()
