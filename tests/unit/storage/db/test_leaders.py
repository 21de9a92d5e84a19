"""Of several, one leads; another when it falls silent."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from storage.db import leaders
from storage.db.engine import Ledger


def take(ledger: Ledger, who: str, now: float) -> bool:
    with ledger.write() as connection:
        return leaders.take(connection, "loop", who, now=now, seconds=10.0)


def renew(ledger: Ledger, who: str, now: float) -> bool:
    with ledger.write() as connection:
        return leaders.renew(connection, "loop", who, now=now, seconds=10.0)


def test_one_leads_until_its_time_is_over(ledger: Ledger) -> None:
    assert take(ledger, "a", 0.0)
    assert not take(ledger, "b", 9.9)
    assert take(ledger, "a", 9.0)
    assert not take(ledger, "b", 18.9)
    assert take(ledger, "b", 19.0)
    assert not take(ledger, "a", 20.0)
    with ledger.read() as connection:
        assert leaders.holder(connection, "loop") == ("b", 29.0)
        assert leaders.holder(connection, "another") is None


def test_who_was_followed_cannot_renew(ledger: Ledger) -> None:
    take(ledger, "a", 0.0)
    assert renew(ledger, "a", 15.0)  # late, but nobody took over
    take(ledger, "b", 99.0)
    assert not renew(ledger, "a", 99.5)


def test_a_leader_that_leaves_is_followed_at_once(ledger: Ledger) -> None:
    take(ledger, "a", 0.0)
    with ledger.write() as connection:
        leaders.release(connection, "loop", "somebody else")
    assert not take(ledger, "b", 1.0)
    with ledger.write() as connection:
        leaders.release(connection, "loop", "a")
    assert take(ledger, "b", 1.0)


def test_of_several_that_try_at_once_one_leads(ledger: Ledger) -> None:
    together = threading.Barrier(4)

    def attempt(number: int) -> bool:
        together.wait()
        return take(ledger, f"scheduler {number}", 0.0)

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(attempt, range(4))) == 1
