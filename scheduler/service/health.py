"""Whether the scheduler or the workers of this machine are alive, by their own signs of life."""

from __future__ import annotations

import socket
from typing import Final

from scheduler.loops.run import LEADER
from storage.contract.states import WorkerState
from storage.db import leaders, workers
from storage.db.engine import Ledger

HEARD_SECONDS: Final = 30.0


def is_scheduler_well(ledger: Ledger) -> tuple[bool, str]:
    """Whether some scheduler leads; of one that stands by, its leader's life is what counts."""
    with ledger.read() as connection:
        found = leaders.holder(connection, LEADER)
    if found is None:
        return False, "no scheduler has ever led"
    holder, expires_at = found
    late = ledger.now() - expires_at
    if late > HEARD_SECONDS:
        return False, f"{holder} led last; its lease ran out {late:.0f} s ago"
    return True, f"{holder} leads"


def is_worker_well(ledger: Ledger) -> tuple[bool, str]:
    """Whether a worker of this machine was heard from just now."""
    host = socket.gethostname()
    now = ledger.now()
    with ledger.read() as connection:
        mine = [one for one in workers.present(connection) if one.host == host]
    heard = [one for one in mine if now - one.seen_at <= HEARD_SECONDS]
    if heard:
        resting = sum(one.state == WorkerState.DRAINING for one in heard)
        rest = f", {resting} of them at rest" if resting else ""
        return True, f"{len(heard)} worker(s) on {host}{rest}"
    return False, f"no worker of {host} was heard from in {HEARD_SECONDS:.0f} s"
