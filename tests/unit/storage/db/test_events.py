"""What happened, in order and without gaps."""

from __future__ import annotations

import sqlalchemy as sa

from storage.contract.states import Entity
from storage.db import events, steering
from storage.db.engine import Ledger
from storage.db.events import EventFilter
from storage.db.tasks import hand_back
from storage.db.transitions import record
from storage.testing.factories import add_groups, add_worker, cut_task, ref_of


def verbs(ledger: Ledger, wanted: EventFilter | None = None) -> list[str]:
    with ledger.read() as connection:
        return [one.verb for one in events.page(connection, wanted, limit=99)]


def test_pages_follow_on_each_other_and_the_latest_come_in_order(ledger: Ledger) -> None:
    with ledger.write() as connection:
        for number in range(5):
            record(connection, Entity.JOB, number, f"verb {number}", now=float(number))
    shown: list[str] = []
    after = 0
    with ledger.read() as connection:
        while page := events.page(connection, after=after, limit=2):
            shown += [one.verb for one in page]
            after = page[-1].id
        latest = [one.verb for one in events.latest(connection, limit=2)]
    assert shown == [f"verb {number}" for number in range(5)]
    assert latest == ["verb 3", "verb 4"]


def test_events_are_narrowed_to_a_job_a_worker_or_a_verb(ledger: Ledger) -> None:
    one, two = (add_worker(ledger, pid=pid) for pid in (1, 2))
    add_groups(ledger, (2, 1))
    add_groups(ledger, (2, 1), name="other")
    cut_task(ledger, one, group_id=1)
    cut_task(ledger, two, group_id=2)
    with ledger.write() as connection:
        steering.pause(connection, 2, now=3.0)
    assert verbs(ledger) == ["register", "register", "submit", "submit", "claim", "claim", "pause"]
    assert verbs(ledger, EventFilter(job_id=1)) == ["submit", "claim"]
    assert verbs(ledger, EventFilter(job_id=2)) == ["submit", "claim", "pause"]
    assert verbs(ledger, EventFilter(worker_id=two)) == ["register", "claim"]
    assert verbs(ledger, EventFilter(entity=Entity.JOB, entity_id=2)) == ["submit", "pause"]
    assert verbs(ledger, EventFilter(verbs=("pause", "register"))) == [
        "register",
        "register",
        "pause",
    ]


def test_on_postgresql_who_follows_misses_no_event_that_is_committed_late(
    postgres_ledger: Ledger,
) -> None:
    ledger = postgres_ledger
    with ledger.write() as late:
        record(late, Entity.JOB, 1, "first", now=ledger.now())
        with ledger.write() as quick:
            record(quick, Entity.JOB, 2, "second", now=ledger.now())
        with ledger.read() as connection:
            known = connection.execute(sa.text("SELECT verb FROM events")).scalars().all()
        assert known == ["second"]
        assert verbs(ledger) == []
    assert verbs(ledger) == ["first", "second"]


def test_the_latest_of_a_job_are_of_the_tasks_that_began_or_ended_last(ledger: Ledger) -> None:
    worker_id = add_worker(ledger)
    add_groups(ledger, *[(4, 4)] * 4)
    add_groups(ledger, (4, 4), name="other")
    cut = [cut_task(ledger, worker_id, group_id=group, lease=group) for group in (1, 2, 3, 4, 5)]
    with ledger.write() as connection:
        for number in (2, 4, 0):  # the last of the other job
            task = cut[number]
            assert task is not None
            hand_back(connection, ref_of(task), now=9.0 - number)
    with ledger.read() as connection:
        by_pages = events.page(connection, EventFilter(job_id=1), limit=99)
        for limit in (1, 2, 3, 99):
            latest = events.latest(connection, EventFilter(job_id=1), limit=limit)
            assert latest == by_pages[-limit:]
