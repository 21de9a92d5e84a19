"""Groups: how far each one is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa

from storage.db import groups, tables
from storage.db.engine import Ledger
from storage.testing.factories import (
    add_groups,
)

PlanOf = Callable[[Callable[[sa.Connection], Iterable[Any]]], list[str]]


def test_a_jobs_groups_are_listed_in_order_page_by_page(ledger: Ledger) -> None:
    add_groups(ledger, (1, 1), (2, 1), (3, 1))
    add_groups(ledger, (1, 1), name="other")
    with ledger.read() as connection:
        first = list(groups.of_job(connection, 1, limit=2))
        second = list(groups.of_job(connection, 1, limit=2, after=first[-1].id))
    assert [(g.id, g.job_id, g.first_item, g.stop_item) for g in first + second] == [
        (1, 1, 0, 1),
        (2, 1, 1, 3),
        (3, 1, 3, 6),
    ]


def test_the_next_range_of_a_group_is_found_without_reading_the_others(
    ledger: Ledger, plan_of: PlanOf
) -> None:
    def ask(connection: sa.Connection) -> Iterable[Any]:
        due = tables.returned.c.not_before <= 1.0
        return connection.execute(
            sa.select(tables.returned)
            .where(tables.returned.c.group_id == 1, due)
            .order_by(tables.returned.c.first_item)
            .limit(1)
        )

    assert plan_of(ask) == ["SEARCH returned USING INDEX ix_returned_group_id (group_id=?)"]
