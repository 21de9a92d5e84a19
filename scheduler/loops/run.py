"""The scheduler's loop: one process leads and keeps work moving, others stand by.

A turn is cheap and safe to repeat, and nothing is remembered between turns that matters: a
leader that is killed is followed by another within seconds, and two that lead at once do no
harm, since every step is a conditional change in SQL.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from scheduler.loops.rescue import IsAlive, rescue
from scheduler.loops.stalls import report_stalled
from scheduler.loops.tickets import TicketOffice, issue_tickets
from storage.contract.errors import RendermillError
from storage.db import leaders
from storage.db.engine import Ledger
from storage.db.search_index import Indexer
from storage.db.workers import Worker

TURN_SECONDS: Final = 1.0
LEASE_SECONDS: Final = 5.0
STALLS_SECONDS: Final = 30.0
INDEX_SECONDS: Final = 0.5
"""Of a turn, for making new images searchable: leases and tickets must not wait long."""

KEEP_SECONDS: Final = 30.0

LEADER: Final = "scheduler"
HEARD_SECONDS: Final = 10.0
"""A worker of a farm beats every three seconds."""

log = structlog.get_logger()


@dataclass(kw_only=True)
class Loop:
    """One scheduler process."""

    ledger: Ledger
    office: TicketOffice | None  #: None: no broker, workers look for work by themselves
    holder: str  #: names this process among schedulers
    is_alive: IsAlive
    keep: Callable[[], object] | None = None  #: applies retention, for a moment at a time
    leads: bool = False
    tickets: int = 0  #: issued since the start
    _indexer: Indexer = field(init=False)
    _due: dict[str, float] = field(default_factory=dict)
    _troubles: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """The indexer remembers words between turns."""
        self._indexer = Indexer(self.ledger)

    def run(self, stop: threading.Event) -> None:
        """Take turns until `stop`, then let another lead at once."""
        try:
            while not stop.wait(TURN_SECONDS):
                self.turn()
        finally:
            self._try("leave", self._release)

    def turn(self) -> None:
        """Lead if nobody else does, and then do what is due."""
        led, self.leads = self.leads, False
        self._try("lead", self._take)
        if self.leads != led:
            log.info("leads" if self.leads else "stands by", action="leader", holder=self.holder)
        if not self.leads:
            return
        self._try("rescue", self._rescue)
        self._try("tickets", self._issue)
        self._try("index", lambda: self._indexer.catch_up(INDEX_SECONDS))
        if self._is_due("stalls", STALLS_SECONDS):
            self._try("stalls", lambda: report_stalled(self.ledger))
        if self.keep is not None and self._is_due("keep", KEEP_SECONDS):
            self._try("keep", self.keep)

    def _take(self) -> None:
        now = self.ledger.now()
        with self.ledger.write() as connection:
            self.leads = leaders.take(
                connection, LEADER, self.holder, seconds=LEASE_SECONDS, now=now
            )

    def _release(self) -> None:
        with self.ledger.write() as connection:
            leaders.release(connection, LEADER, self.holder)

    def _rescue(self) -> None:
        found = rescue(self.ledger, is_alive=self._is_alive)
        if found.tasks or found.workers:
            log.info(
                "rescued",
                action="rescued",
                tasks=found.tasks,
                items=found.items,
                workers=found.workers,
            )

    def _is_alive(self, worker: Worker) -> bool | None:
        """Whether it lives, as far as can be told here.

        Two machines may have one name, and two containers of a machine cannot see each other's
        processes: one that was heard from just now is not dead because it is not found here.
        """
        alive = self.is_alive(worker)
        heard = self.ledger.now() - worker.seen_at < HEARD_SECONDS
        return None if alive is False and heard else alive

    def _issue(self) -> None:
        if self.office is not None:
            self.tickets += issue_tickets(self.ledger, self.office)

    def _is_due(self, name: str, seconds: float) -> bool:
        now = time.monotonic()
        if now < self._due.get(name, 0.0):
            return False
        self._due[name] = now + seconds
        return True

    def _try(self, name: str, step: Callable[[], object]) -> None:
        """Do one step; what goes wrong is said once, and tried again in the next turn."""
        try:
            step()
        except RendermillError as error:
            if self._is_new(name, error.message):
                log.warning(error.message, action="trouble", step=name, hint=error.hint)
        except Exception as error:  # a fault of ours in one step must not end the others
            if self._is_new(name, f"{type(error).__name__}: {error}"):
                log.exception("a step failed", action="trouble", step=name)
        else:
            if self._troubles.pop(name, None) is not None:
                log.info("works again", action="trouble_over", step=name)

    def _is_new(self, name: str, said: str) -> bool:
        before, self._troubles[name] = self._troubles.get(name), said
        return said != before
