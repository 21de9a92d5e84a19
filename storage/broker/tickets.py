"""Publishing tickets, counting those that wait, and making the queues."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import kombu
from amqp.exceptions import AMQPError, NotFound, PreconditionFailed
from celery import Celery
from kombu.exceptions import KombuError, OperationalError

from storage.broker.app import WORK, is_redis, make_app
from storage.broker.queues import DEAD, all_queues
from storage.contract.classes import VRAM_CLASSES, queue_of
from storage.contract.errors import BrokerUnavailable, SettingError
from storage.settings import BROKER_URL, shown

_CONNECT_SECONDS = 5.0


class Tickets:
    """One long-lived connection to a broker; made anew after an error."""

    def __init__(self, url: str) -> None:
        """Nothing is connected yet."""
        self.where = shown(url)
        self.redis = is_redis(url)
        self._app: Celery = make_app(url)
        self._connection: kombu.Connection | None = None
        self._producer: kombu.Producer | None = None

    def declare(self) -> None:
        """Make all queues; safe to repeat. A queue with other arguments is a `SettingError`."""
        with self._translated():
            channel = self._connected().channel()
            for queue in all_queues(redis=self.redis):
                queue(channel).declare()
            channel.close()

    def publish(self, counts: Mapping[str, int]) -> int:
        """Put that many tickets on the queue of each class, confirmed by the broker."""
        published = 0
        with self._translated():
            self._connected()
            for vram_class, count in counts.items():
                for _ in range(count):
                    self._send(vram_class)
                    published += 1
        return published

    def waiting(self) -> dict[str, int]:
        """Tickets that wait on the queue of each class; those held by workers do not count."""
        found = {}
        with self._translated():
            channel = self._connected().channel()
            for vram_class in VRAM_CLASSES:
                found[vram_class] = self._length(channel, queue_of(vram_class))
            channel.close()
        return found

    def purge(self) -> int:
        """Drop all waiting tickets; how many. New ones are issued within a second."""
        with self._translated():
            channel = self._connected().channel()
            return sum(int(channel.queue_purge(queue_of(label)) or 0) for label in VRAM_CLASSES)

    def properties(self) -> dict[str, Any]:
        """What the server says of itself (RabbitMQ's properties, Redis' INFO)."""
        with self._translated():
            connection = self._connected()
            if self.redis:
                return _redis_properties(connection.default_channel.client)
            return dict(connection.connection.server_properties)

    def dead(self) -> int:
        """Tickets that killed worker after worker, or were held too often. Redis keeps none."""
        if self.redis:
            return 0
        with self._translated():
            channel = self._connected().channel()
            found = self._length(channel, DEAD)
            channel.close()
        return found

    def close(self) -> None:
        """Drop the connection; the next use makes a new one."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            with suppress(OSError, AMQPError, KombuError):  # it may be gone already
                connection.release()

    def _length(self, channel: Any, queue: str) -> int:
        if self.redis:  # a list without entries does not exist there, which is no error
            return int(channel.client.llen(queue))
        try:
            return int(channel.queue_declare(queue, passive=True).message_count)
        except NotFound as error:
            raise BrokerUnavailable(
                f"{self.where} has no queue {queue}", hint="make the queues: rendermill init"
            ) from error

    def _send(self, vram_class: str) -> None:
        queue = queue_of(vram_class)
        self._app.send_task(
            WORK, queue=queue, producer=self._producer, retry=False, ignore_result=True
        )

    def _connected(self) -> kombu.Connection:
        if self._connection is None:
            connection = self._app.connection_for_write(connect_timeout=_CONNECT_SECONDS)
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=_CONNECT_SECONDS)
            self._connection = connection
            self._producer = self._app.amqp.Producer(connection.channel(), auto_declare=False)
        return self._connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except PreconditionFailed as error:
            self.close()
            raise SettingError(
                f"{self.where} has a queue of ours with other arguments: {error.reply_text}",
                hint="it was made by another program or version; delete the queue, then run"
                " rendermill init",
            ) from error
        except BrokerUnavailable:
            self.close()
            raise
        except Exception as error:
            connection, driver_errors = self._connection, (OSError, KombuError, AMQPError)
            if connection is not None:
                driver_errors += connection.connection_errors + connection.channel_errors
            self.close()
            if isinstance(error, driver_errors) or _is_redis_error(error):
                raise BrokerUnavailable(
                    f"{self.where}: {_said(error)}",
                    hint=f"check that the broker runs and {BROKER_URL} names it",
                ) from error
            raise


def _redis_properties(client: Any) -> dict[str, Any]:
    """INFO, and those settings that may be read: hosted servers often keep them to themselves."""
    from redis.exceptions import ResponseError

    said = dict(client.info())
    for setting in ("maxmemory-policy", "appendonly", "save"):
        with suppress(ResponseError):
            for name, value in client.config_get(setting).items():
                said[f"config:{name}"] = value
    return said


def _is_redis_error(error: Exception) -> bool:
    return type(error).__module__.startswith("redis.")


def _said(error: Exception) -> str:
    """What went wrong in a few words; brokers say the same thing in many layers."""
    cause: BaseException = error
    if isinstance(error, OperationalError) and error.__cause__ is not None:
        cause = error.__cause__
    text = str(cause).strip().splitlines()
    if "ACCESS_REFUSED" in str(cause):
        return "it refuses the user or password"
    if isinstance(cause, ConnectionRefusedError):
        return "nothing answers there (connection refused)"
    return text[0] if text else type(cause).__name__
