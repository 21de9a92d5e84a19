"""Whom to wake."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from scheduler.policy import TICKETS_PER_WORKER, tickets_wanted
from storage.contract.claims import ClassFleet, FleetPart, OpenGroup
from storage.contract.classes import GIB, class_of
from storage.testing.factories import make_open_group, make_requirements

NOW = 1_000_000.0
ON_CARDS = make_requirements(999 * GIB, resident=6 * GIB)

Make = Callable[..., Any]


def group_of(claimable: int, model: str = "a", gib: int = 6, **overrides: Any) -> OpenGroup:
    values: dict[str, Any] = {
        "claimable": claimable,
        "model": model,
        "profile_key": model,
        "batch_size": 1,
        "requirements": make_requirements(999 * GIB, resident=gib * GIB),
        "submitted_at": NOW - 1,
    }
    return make_open_group(**(values | overrides))


def fleet_of(*parts: FleetPart, idle: dict[str, int] | None = None) -> dict[str, ClassFleet]:
    """Parts by class; all are idle unless said otherwise."""
    fleet = {}
    for part in parts:
        name = class_of(part.vram_bytes)
        waiting = part.count if idle is None else idle.get(name, 0)
        fleet[name] = ClassFleet(parts=(part,), idle=waiting)
    return fleet


def wanted(groups: list[OpenGroup], fleet: dict[str, ClassFleet], **queued: int) -> dict[str, int]:
    return tickets_wanted(groups, fleet, queued, NOW)


def test_much_work_is_two_tickets_for_each_live_worker(card: Make) -> None:
    assert wanted([group_of(1000)], fleet_of(card(8, 3), card(24, 2))) == {"gpu8": 6, "gpu24": 4}


def test_tickets_that_are_queued_are_not_issued_again(card: Make) -> None:
    fleet = fleet_of(card(8, 3), card(24, 2))
    assert wanted([group_of(1000)], fleet, gpu8=5, gpu24=4) == {"gpu8": 1}
    assert wanted([group_of(1000)], fleet, gpu8=60, gpu24=4) == {}


def test_without_work_nobody_is_woken(card: Make) -> None:
    assert wanted([], fleet_of(card(8, 3))) == {}


def test_little_work_wakes_the_smallest_that_are_idle(card: Make) -> None:
    fleet = fleet_of(card(8, 3), card(24, 2))
    assert wanted([group_of(2)], fleet) == {"gpu8": 2}
    assert wanted([group_of(4)], fleet) == {"gpu8": 3, "gpu24": 1}


def test_little_work_goes_to_idle_large_cards_while_the_small_are_busy(card: Make) -> None:
    fleet = fleet_of(card(8, 3), card(24, 2), idle={"gpu24": 2})
    assert wanted([group_of(2)], fleet) == {"gpu24": 2}
    assert wanted([group_of(3)], fleet) == {"gpu24": 2, "gpu8": 1}


def test_what_only_large_cards_can_do_keeps_them(card: Make) -> None:
    fleet = fleet_of(card(8, 3), card(24, 2))
    groups = [group_of(4, "a"), group_of(4, "b", 20, group_id=2)]
    assert wanted(groups, fleet) == {"gpu8": 4, "gpu24": 4}


def test_who_cannot_render_anything_is_not_woken(card: Make) -> None:
    fleet = fleet_of(card(4, 3), card(24, 2), card(0, 8))
    assert wanted([group_of(1000)], fleet) == {"gpu24": 4}


def test_a_batch_is_the_least_that_is_worth_a_ticket(card: Make) -> None:
    fleet = fleet_of(card(24, 9))
    assert wanted([group_of(9, batch_size=4)], fleet) == {"gpu24": 3}


def test_who_would_decline_the_rest_is_not_woken_for_it(card: Make) -> None:
    fast = card(24, 1, seconds_per_image={"a": 1.0}, loaded={"a": 1})
    slow = card(8, 2, seconds_per_image={"a": 60.0}, loaded={"a": 2})
    assert wanted([group_of(1)], fleet_of(slow, fast)) == {"gpu24": 1}
    assert wanted([group_of(500)], fleet_of(slow, fast)) == {"gpu8": 4, "gpu24": 2}


PARTS = st.builds(
    FleetPart,
    kind=st.just("card"),
    vram_bytes=st.sampled_from([0, 6 * GIB, 12 * GIB, 24 * GIB]),
    ram_bytes=st.just(64 * GIB),
    count=st.integers(0, 50),
    loaded=st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 9), max_size=2),
)
FLEETS = st.lists(PARTS, max_size=4, unique_by=lambda part: part.vram_bytes).map(
    lambda parts: fleet_of(*parts)
)
GROUPS = st.lists(
    st.builds(
        group_of,
        st.integers(1, 500),
        st.sampled_from(["a", "b"]),
        st.sampled_from([5, 11, 20]),
        cpu=st.sampled_from(["auto", "never"]),
    ),
    max_size=4,
)
QUEUED = st.dictionaries(st.sampled_from(["cpu", "gpu6", "gpu24"]), st.integers(0, 50))


@given(GROUPS, FLEETS, QUEUED)
def test_there_are_never_more_tickets_than_two_a_worker_or_than_batches(
    groups: list[OpenGroup], fleet: dict[str, ClassFleet], queued: dict[str, int]
) -> None:
    issued = tickets_wanted(groups, fleet, queued, NOW)
    for name, count in issued.items():
        assert count > 0
        assert count + queued.get(name, 0) <= fleet[name].live * TICKETS_PER_WORKER
    assert sum(issued.values()) <= sum(group.claimable for group in groups)


@given(GROUPS, FLEETS)
def test_only_classes_that_can_render_something_get_tickets(
    groups: list[OpenGroup], fleet: dict[str, ClassFleet]
) -> None:
    for name in tickets_wanted(groups, fleet, {}, NOW):
        (part,) = fleet[name].parts
        assert any(
            group.requirements.fit(part) and not (group.cpu == "never" and name == "cpu")
            for group in groups
        )


def test_ten_thousand_workers_and_a_thousand_groups_are_summed_up(card: Make) -> None:
    speeds = dict.fromkeys("abcd", 2.0)
    fleet = fleet_of(
        *(
            card(gib, 2000, seconds_per_image=speeds, loaded=dict.fromkeys("abcd", 500))
            for gib in (6, 8, 12, 24, 48)
        )
    )
    groups = [group_of(100, "abcd"[n % 4], group_id=n, job_id=n // 50) for n in range(1000)]
    fastest = math.inf
    for _ in range(5):
        started = time.process_time()
        issued = wanted(groups, fleet)
        fastest = min(fastest, time.process_time() - started)
    assert sum(issued.values()) == 20_000
    assert fastest < 0.2  # some milliseconds; twice a second, that is far below one core
