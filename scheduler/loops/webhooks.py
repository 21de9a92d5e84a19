"""Web hooks: telling the addresses that jobs name when a job is done or stalled.

What happened to a job is an event; for each that somebody wants to hear of, a delivery is
written, and tried until it is received or a day has passed. A receiver may get one twice (the
answer was lost, or two schedulers led for a moment) and tells by X-Rendermill-Delivery.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import structlog

from scheduler.loops.announcing import announce
from scheduler.loops.webhook_post import Fault, HookSettings, post
from scheduler.loops.webhook_rules import next_attempt
from storage.contract.errors import RendermillError
from storage.db import deliveries
from storage.db.deliveries import Delivery
from storage.db.engine import Ledger

POLL_SECONDS: Final = 2.0
SENT_AT_ONCE: Final = 4
DELIVERIES_A_PASS: Final = 100

Post = Callable[[Delivery], Fault | None]

log = structlog.get_logger()


class WebHooks:
    """Announces and sends in threads of its own, so that no receiver holds anything up."""

    def __init__(
        self,
        ledger: Ledger,
        settings: HookSettings,
        *,
        may_send: Callable[[], bool] = lambda: True,
        send: Post | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`may_send` tells whether this process leads; `send` replaces the network in tests."""
        self._ledger = ledger
        self._may_send = may_send
        self._send: Post = send or (lambda delivery: post(delivery, settings))
        self._chance = chance
        self._wanted = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
        self._trouble: str | None = None

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def wake(self) -> None:
        """Look at once: something has just happened."""
        self._wanted.set()

    def end(self) -> None:
        """Stop; returns when what is being sent is through, within the time of one attempt."""
        self._ended.set()
        self._wanted.set()
        self._thread.join()

    @property
    def ending(self) -> bool:
        """Whether it was told to stop."""
        return self._ended.is_set()

    def send_due(self) -> int:
        """One pass: write down what is new, try what is due; how many were received."""
        announce(self._ledger)
        with self._ledger.read() as connection:
            due = deliveries.due(connection, self._ledger.now(), DELIVERIES_A_PASS)
        if not due:
            return 0
        with ThreadPoolExecutor(SENT_AT_ONCE, thread_name_prefix="webhook") as pool:
            return sum(pool.map(self._deliver, due))

    def _run(self) -> None:
        while not self._ended.is_set():
            self._wanted.wait(POLL_SECONDS)
            self._wanted.clear()
            if not self._ended.is_set() and self._may_send():
                self._try()

    def _try(self) -> None:
        """One pass; what goes wrong is said once, and tried again with the next."""
        try:
            self.send_due()
        except RendermillError as error:
            if self._trouble != error.message:
                log.warning(error.message, action="trouble", step="webhooks", hint=error.hint)
            self._trouble = error.message
        else:
            self._trouble = None

    def _deliver(self, delivery: Delivery) -> bool:
        if self._ended.is_set():
            return False
        fault = self._send(delivery)
        said = log.bind(job_id=delivery.job_id, event_name=delivery.event, delivery=delivery.id)
        now = self._ledger.now()
        if fault is None:
            with self._ledger.write() as connection:
                deliveries.mark_sent(connection, delivery.id, now)
            said.info("web hook delivered", action="webhook_sent")
            return True
        attempts = delivery.attempts + 1
        again = None if fault.final else next_attempt(attempts, now, self._chance())
        with self._ledger.write() as connection:
            deliveries.mark_failed(connection, delivery.id, fault.text, again)
        said.warning(
            "web hook failed" if again else "web hook given up",
            action="webhook_failed" if again else "webhook_given_up",
            why=fault.text,
            attempts=attempts,
        )
        return False
