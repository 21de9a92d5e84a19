"""When a range has failed often enough, and how its attempts are told."""

from __future__ import annotations

import pytest

from storage.contract.outcomes import (
    DIVISIBLE,
    MAX_ATTEMPTS,
    MAX_LAPSES,
    Failure,
    Reason,
    exhausted,
    summary,
)
from storage.testing.factories import make_failure

COMMON = [reason for reason in Reason if reason not in (*DIVISIBLE, Reason.LAPSED)]


def failures(reason: Reason, count: int, *, items: int) -> tuple[Failure, ...]:
    return (make_failure(reason=reason, items=items),) * count


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason != Reason.LAPSED])
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


def test_a_lapse_may_be_nobodys_fault_and_takes_more_of_them() -> None:
    assert not exhausted(failures(Reason.LAPSED, MAX_LAPSES - 1, items=1), 1)
    assert exhausted(failures(Reason.LAPSED, MAX_LAPSES, items=1), 1)
    assert not exhausted(failures(Reason.LAPSED, 1000, items=2), 2)
    assert not exhausted(failures(Reason.LAPSED, 1000, items=2), 1)


def test_what_never_failed_is_not_given_up() -> None:
    assert not exhausted((), 1)


def test_the_summary_tells_every_attempt_in_order() -> None:
    attempts = (
        make_failure(reason=Reason.CRASHED, detail="SIGSEGV", worker_id=3),
        make_failure(reason=Reason.ERROR, detail="boom", worker_id=4),
    )
    assert summary(attempts) == (
        "attempt 1 (worker 3): crashed: SIGSEGV; attempt 2 (worker 4): error: boom"
    )
