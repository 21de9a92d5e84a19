"""Ranges that came back: how they are halved, and how tasks are cut from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storage.contract.outcomes import Failure, Reason
from storage.db.engine import Ledger
from storage.db.ranges import (
    Returned,
    decode_failures,
    encode_failures,
    halves,
    next_range,
    put_back,
    take_returned,
)
from storage.db.tables import returned
from storage.testing.factories import add_groups, make_failure

places = st.integers(0, 60)
lengths = st.integers(1, 60)
batch_sizes = st.integers(1, 7)
NOW = 100.0


@pytest.fixture(scope="module")
def shared(lasting_ledger: Ledger) -> Ledger:
    """A ledger with a group of 200 items, for examples that are rolled back."""
    add_groups(lasting_ledger, (200, 1))
    return lasting_ledger


@contextmanager
def undone(ledger: Ledger) -> Iterator[sa.Connection]:
    """A connection whose changes are rolled back."""
    with ledger.engine.connect() as connection:
        yield connection


def waiting(connection: sa.Connection) -> list[tuple[int, int, str, float]]:
    """The ranges that wait, in order."""
    statement = sa.select(returned).order_by(returned.c.first_item)
    return [
        (row.first_item, row.stop_item, row.failures, row.not_before)
        for row in connection.execute(statement)
    ]


def borders_between(first: int, stop: int, batch_size: int, origin: int) -> list[int]:
    return [at for at in range(first + 1, stop) if (at - origin) % batch_size == 0]


def expected_stop(first: int, stop: int, count: int, batch_size: int, origin: int) -> int:
    """Where a task of `count` items from `first` on must end, by looking at every item."""
    borders = borders_between(first, first + count + batch_size + 1, batch_size, origin)
    fitting = [at for at in borders if at - first <= count]
    return min(stop, max(fitting, default=borders[0]))


@given(origin=places, before=places, length=lengths, batch_size=batch_sizes)
@example(origin=0, before=0, length=3, batch_size=2)
def test_halves_are_two_parts_cut_at_a_batch_border_if_there_is_one_inside(
    origin: int, before: int, length: int, batch_size: int
) -> None:
    first = origin + before
    stop = first + length
    parts = halves(first, stop, batch_size=batch_size, origin=origin)

    assert [item for a, b in parts for item in range(a, b)] == list(range(first, stop))
    assert len(parts) == min(2, length)
    if len(parts) == 2:
        cut, middle = parts[0][1], first + length // 2
        borders = borders_between(first, stop, batch_size, origin)
        assert not borders or cut in borders
        assert abs(cut - middle) == min((abs(at - middle) for at in borders), default=0)


@given(origin=places, length=lengths, batch_size=batch_sizes, culprit=places)
def test_halving_again_and_again_isolates_any_item_in_few_steps(
    origin: int, length: int, batch_size: int, culprit: int
) -> None:
    wanted = origin + culprit % length
    part = (origin, origin + length)
    steps = 0
    while part[1] - part[0] > 1:
        parts = halves(*part, batch_size=batch_size, origin=origin)
        (part,) = [one for one in parts if one[0] <= wanted < one[1]]
        steps += 1
    assert part == (wanted, wanted + 1)
    assert steps <= 2 + (length - 1).bit_length()


@settings(max_examples=50)
@given(origin=places, before=places, length=lengths, batch_size=batch_sizes, count=lengths)
def test_a_returned_range_is_taken_up_to_a_batch_border_and_its_rest_waits_on(
    shared: Ledger, origin: int, before: int, length: int, batch_size: int, count: int
) -> None:
    first = origin + before
    history = (make_failure(detail="first try"),)
    with undone(shared) as connection:
        whole = Returned(first_item=first, stop_item=first + length, failures=history)
        put_back(connection, 1, [whole], not_before=NOW)

        taken = take_returned(connection, 1, count, batch_size=batch_size, origin=origin, now=NOW)
        rest = waiting(connection)

    stop = expected_stop(first, first + length, count, batch_size, origin)
    assert taken == Returned(first_item=first, stop_item=stop, failures=history)
    left = [(stop, first + length, encode_failures(history), NOW)]
    assert rest == (left if stop < first + length else [])


@given(origin=places, before=places, length=lengths, batch_size=batch_sizes, count=lengths)
def test_the_next_items_are_taken_up_to_a_batch_border(
    origin: int, before: int, length: int, batch_size: int, count: int
) -> None:
    first, end = origin + before, origin + before + length
    taken = next_range(first, end, count, batch_size=batch_size, origin=origin)
    stop = expected_stop(first, end, count, batch_size, origin)
    assert taken == Returned(first_item=first, stop_item=stop, failures=())


def test_a_range_that_is_refused_is_left_for_others(shared: Ledger) -> None:
    mine, fresh = (make_failure(worker="me"),), (make_failure(worker="you"),)
    with undone(shared) as connection:
        for first, failures in ((0, mine), (4, fresh)):
            part = Returned(first_item=first, stop_item=first + 4, failures=failures)
            put_back(connection, 1, [part], not_before=NOW)

        def take(refused: tuple[Failure, ...]) -> int | None:
            found = take_returned(
                connection,
                1,
                9,
                batch_size=4,
                origin=0,
                now=NOW,
                refuses=lambda failures: failures == refused,
            )
            return found.first_item if found else None

        assert [take(mine), take(mine), take(fresh)] == [4, None, 0]


def test_a_range_waits_for_its_time_and_the_lowest_that_is_due_goes_first(shared: Ledger) -> None:
    with undone(shared) as connection:
        for first, not_before in ((12, NOW - 1), (8, NOW), (4, NOW + 1)):
            part = Returned(first_item=first, stop_item=first + 2)
            put_back(connection, 1, [part], not_before=not_before)

        def take(now: float) -> int | None:
            found = take_returned(connection, 1, 9, batch_size=4, origin=0, now=now)
            return found.first_item if found else None

        assert [take(NOW), take(NOW), take(NOW), take(NOW + 1)] == [8, 12, None, 4]


def test_a_group_that_was_claimed_whole_has_no_next_items() -> None:
    assert next_range(9, 9, 5, batch_size=4, origin=0) is None


def test_ranges_of_another_group_are_left_to_it(shared: Ledger) -> None:
    with undone(shared) as connection:
        put_back(connection, 1, [Returned(first_item=0, stop_item=2)], not_before=NOW)
        assert take_returned(connection, 2, 9, batch_size=4, origin=0, now=NOW) is None


@given(
    st.lists(
        st.builds(
            Failure,
            reason=st.sampled_from(Reason),
            detail=st.text(max_size=20),
            worker_id=places,
            at=st.floats(0, 1e10),
            worker=st.text(max_size=9),
            first_item=places,
            items=lengths,
        ),
        max_size=4,
    )
)
def test_failures_survive_their_way_through_sql(failures: list[Failure]) -> None:
    assert decode_failures(encode_failures(tuple(failures))) == tuple(failures)
