"""Web hooks to send: due, sent, tried again, given up."""

from __future__ import annotations

from storage.db import deliveries
from storage.db.engine import Ledger
from storage.testing.factories import add_groups


def add(ledger: Ledger, event: str, now: float) -> int:
    with ledger.write() as connection:
        return deliveries.add(
            connection, job_id=1, event=event, url="https://a.example", body="{}", now=now
        )


def due(ledger: Ledger, now: float, limit: int = 9) -> list[str]:
    with ledger.read() as connection:
        return [one.event for one in deliveries.due(connection, now, limit)]


def test_what_is_due_comes_longest_due_first_until_it_is_sent_or_given_up(ledger: Ledger) -> None:
    add_groups(ledger, (1, 1))
    when = (("b", 2.0), ("a", 1.0), ("c", 3.0))
    done, stalled, third = (add(ledger, name, at) for name, at in when)
    assert due(ledger, 1.5) == ["a"]
    assert due(ledger, 9.0) == ["a", "b", "c"]
    assert due(ledger, 9.0, limit=2) == ["a", "b"]
    with ledger.write() as connection:
        deliveries.mark_sent(connection, done, 9.0)
        deliveries.mark_failed(connection, stalled, "refused", 20.0)
        deliveries.mark_failed(connection, third, "gone", None)
    assert due(ledger, 19.0) == []
    assert due(ledger, 20.0) == ["a"]
    with ledger.read() as connection:
        said = [
            (one.event, one.attempts, one.delivered_at, one.error)
            for one in deliveries.of_job(connection, 1)
        ]
    assert said == [("b", 1, 9.0, None), ("a", 1, None, "refused"), ("c", 1, None, "gone")]
