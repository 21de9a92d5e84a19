"""Issuing tickets: about two per live worker that could claim now, no more than work to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from scheduler.policy import tickets_wanted
from storage.db import fleet as fleets
from storage.db.engine import Ledger
from storage.db.offers import open_groups

GROUPS_READ: Final = 2000


class TicketOffice(Protocol):
    """What issuing needs of a broker."""

    def waiting(self) -> dict[str, int]:
        """Tickets waiting, by VRAM class."""

    def publish(self, counts: Mapping[str, int]) -> int:
        """Add tickets; how many."""


def issue_tickets(ledger: Ledger, office: TicketOffice) -> int:
    """One pass; how many tickets were issued.

    What waits at the broker is counted there each time, so a broker that lost its tickets, or
    was emptied by hand, has new ones with the next pass.
    """
    with ledger.read() as connection:
        found = open_groups(connection, limit=GROUPS_READ, job_id=None)
        fleet = fleets.by_class(connection, now=ledger.now()) if found else {}
    if not fleet:
        return 0
    wanted = tickets_wanted(found, fleet, office.waiting(), ledger.now())
    return office.publish(wanted) if wanted else 0
