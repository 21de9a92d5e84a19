"""When a range has failed often enough, and how its attempts are told."""

from __future__ import annotations

import pytest

from storage.contract.outcomes import (
    BLAMELESS,
    DIVISIBLE,
    MAX_ATTEMPTS,
    MAX_LAPSES,
    MOST_ATTEMPTS,
    YIELD_SECONDS,
    Failure,
    Reason,
    exhausted,
    leaves_to_others,
    summary,
)
from storage.testing.factories import make_failure

BLAMING = [reason for reason in Reason if reason not in BLAMELESS]
COMMON = [reason for reason in BLAMING if reason not in DIVISIBLE]


def failures(reason: Reason, count: int, *, items: int) -> tuple[Failure, ...]:
    return (make_failure(reason=reason, items=items),) * count


@pytest.mark.parametrize("reason", BLAMING)
def test_an_item_that_stood_alone_is_given_up_after_three_attempts(reason: Reason) -> None:
    assert not exhausted(failures(reason, MAX_ATTEMPTS - 1, items=1), 1)
    assert exhausted(failures(reason, MAX_ATTEMPTS, items=1), 1)


@pytest.mark.parametrize("reason", sorted(DIVISIBLE))
def test_an_item_is_not_given_up_for_what_its_neighbours_may_have_done(reason: Reason) -> None:
    halving = tuple(make_failure(reason=reason, items=items) for items in (32, 16, 8, 4, 2))
    assert not exhausted(halving, 1)
    assert exhausted(halving + failures(reason, MAX_ATTEMPTS, items=1), 1)


@pytest.mark.parametrize("reason", sorted(DIVISIBLE))
def test_a_range_is_divided_rather_than_given_up(reason: Reason) -> None:
    assert not exhausted(failures(reason, 50, items=2), 2)


@pytest.mark.parametrize("reason", COMMON)
def test_what_concerns_a_range_alike_fails_all_of_it_after_three_attempts(reason: Reason) -> None:
    assert not exhausted(failures(reason, MAX_ATTEMPTS - 1, items=9), 9)
    assert exhausted(failures(reason, MAX_ATTEMPTS, items=9), 9)


def test_lapses_hide_no_attempts() -> None:
    lapses = failures(Reason.LAPSED, MAX_LAPSES, items=9)
    assert exhausted(lapses + failures(Reason.MODEL, MAX_ATTEMPTS, items=9), 9)


@pytest.mark.parametrize("reason", sorted(BLAMELESS))
def test_what_may_be_nobodys_fault_takes_more_of_it(reason: Reason) -> None:
    assert not exhausted(failures(reason, MAX_LAPSES - 1, items=1), 1)
    assert exhausted(failures(reason, MAX_LAPSES, items=1), 1)
    assert not exhausted(failures(reason, 1000, items=2), 2)
    assert not exhausted(failures(reason, 1000, items=2), 1)


def by(*workers: str, reason: Reason = Reason.ERROR, at: float = 1.0) -> tuple[Failure, ...]:
    """One failure of an item that stood alone by each of these workers."""
    return tuple(make_failure(worker=worker, reason=reason, at=at) for worker in workers)


def test_three_different_workers_must_have_failed_where_there_are_three() -> None:
    assert not exhausted(by("a", "a", "a"), 1, able=3)
    assert not exhausted(by("a", "a", "a", "b", "b"), 1, able=9)
    assert exhausted(by("a", "b", "c"), 1, able=9)


def test_where_there_are_fewer_all_of_them_must_have_failed() -> None:
    assert exhausted(by("a", "a", "a"), 1, able=1)
    assert not exhausted(by("a", "a", "a"), 1, able=2)
    assert not exhausted(by("a", "b"), 1, able=2)
    assert exhausted(by("a", "b", "a"), 1, able=2)


def test_no_item_is_tried_for_ever_by_one_worker_that_waits_for_others() -> None:
    assert not exhausted(by(*["a"] * (MOST_ATTEMPTS - 1)), 1, able=3)
    assert exhausted(by(*["a"] * MOST_ATTEMPTS), 1, able=3)


def test_a_worker_leaves_what_it_failed_at_to_one_that_has_not_tried() -> None:
    assert leaves_to_others(by("a"), "a", able=2, now=5.0)
    assert not leaves_to_others(by("a"), "b", able=2, now=5.0)
    assert not leaves_to_others(by("a"), "a", able=1, now=5.0)
    assert not leaves_to_others(by("a", "b"), "a", able=2, now=5.0)
    assert leaves_to_others(by("a", "b"), "a", able=3, now=5.0)
    assert not leaves_to_others(by("a", "b", "c"), "a", able=9, now=5.0)


def test_it_takes_it_again_if_nobody_else_did_for_long() -> None:
    assert leaves_to_others(by("a"), "a", able=2, now=1.0 + YIELD_SECONDS)
    assert not leaves_to_others(by("a"), "a", able=2, now=1.1 + YIELD_SECONDS)


def test_a_lapse_is_no_reason_to_leave_it_to_others() -> None:
    assert not leaves_to_others(by("a", reason=Reason.LAPSED), "a", able=2, now=5.0)


def test_what_never_failed_is_not_given_up() -> None:
    assert not exhausted((), 1)


def test_the_summary_tells_every_attempt_in_order() -> None:
    attempts = (
        make_failure(reason=Reason.CRASHED, detail="SIGSEGV", worker_id=3),
        make_failure(reason=Reason.ERROR, detail="boom", worker_id=4, worker="big/cuda:0"),
    )
    assert summary(attempts) == (
        "attempt 1 (worker 3): crashed: SIGSEGV; attempt 2 (big/cuda:0): error: boom"
    )
