"""Where a job's items lie in the object store."""

from __future__ import annotations

import pytest

from storage.db import jobs, shards
from storage.db.engine import Ledger
from storage.testing.factories import add_groups


@pytest.fixture
def sharded(ledger: Ledger) -> Ledger:
    """A ledger with a job of ten items in shards of four."""
    add_groups(ledger, (10, 1), name="before")
    new = jobs.NewJob(name="job", digest="", token="", manifest="", settings="", item_count=10)
    places = [
        jobs.NewShard(first_item=first, item_count=count, object_key=f"from {first}")
        for first, count in ((0, 4), (4, 4), (8, 2))
    ]
    with ledger.write() as connection:
        assert jobs.create(connection, new, [], places, now=1.0) == 2
    return ledger


@pytest.mark.parametrize(
    ("first", "stop", "firsts"),
    [
        (0, 10, [0, 4, 8]),
        (0, 4, [0]),
        (3, 5, [0, 4]),
        (4, 8, [4]),
        (5, 6, [4]),
        (7, 9, [4, 8]),
        (9, 10, [8]),
        (10, 12, []),
    ],
)
def test_the_shards_that_hold_a_range_are_found_in_order(
    sharded: Ledger, first: int, stop: int, firsts: list[int]
) -> None:
    with sharded.read() as connection:
        found = shards.covering(connection, 2, first, stop)
        assert shards.covering(connection, 1, first, stop) == []
    assert found == [(first_item, f"from {first_item}") for first_item in firsts]
