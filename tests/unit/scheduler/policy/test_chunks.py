"""How much a worker takes at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from scheduler.estimate import seconds_per_image
from scheduler.policy import MAX_TASK_ITEMS, TARGET_SECONDS, TRIAL_SECONDS, choose
from storage.contract.claims import Claim, OpenGroup, WorkerView
from storage.contract.classes import GIB
from storage.testing.factories import make_open_group, make_requirements

NOW = 1_000_000.0
NEEDS = make_requirements(GIB, resident=6 * GIB)

Make = Callable[..., Any]


def x_group(**overrides: Any) -> OpenGroup:
    values: dict[str, Any] = {
        "model": "x",
        "profile_key": "x",
        "requirements": NEEDS,
        "batch_size": 1,
        "submitted_at": NOW - 1,
    }
    return make_open_group(**(values | overrides))


def claim_of(worker: WorkerView, *groups: OpenGroup) -> Claim:
    decision = choose(groups, worker, NOW)
    assert isinstance(decision, Claim)
    return decision


def test_a_worker_takes_half_of_its_fair_share_of_what_is_left(card: Make, worker_of: Make) -> None:
    quarter = worker_of(card(24, 4, seconds_per_image={"x": 0.001}))
    assert claim_of(quarter, x_group(claimable=1600, batch_size=4)).items == 200


def test_a_fast_worker_takes_more_than_a_slow_one(card: Make, worker_of: Make) -> None:
    fast = card(24, 2, seconds_per_image={"x": 0.5})
    slow = card(8, 2, seconds_per_image={"x": 1.0})
    group = x_group(claimable=120)
    assert claim_of(worker_of(fast, slow), group).items == 20
    assert claim_of(worker_of(slow, fast), group).items == 10


def test_a_worker_alone_takes_all_that_is_left(card: Make, worker_of: Make) -> None:
    alone = worker_of(card(24, 1, seconds_per_image={"x": 0.001}))
    assert claim_of(alone, x_group(claimable=30, batch_size=4)).items == 32


def test_no_task_holds_more_items_than_fit_into_memory(card: Make, worker_of: Make) -> None:
    alone = worker_of(card(24, 1, seconds_per_image={"x": 0.0}))
    assert claim_of(alone, x_group(claimable=10**9, batch_size=8)).items == MAX_TASK_ITEMS


def test_pieces_shrink_to_the_end_and_are_not_many(card: Make, worker_of: Make) -> None:
    worker = worker_of(card(24, 2, seconds_per_image={"x": 0.01}))
    left, sizes = 10_000, []
    while left > 0:
        sizes.append(claim_of(worker, x_group(claimable=left, batch_size=4)).items)
        left -= sizes[-1]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 4
    assert len(sizes) <= 40


@pytest.mark.parametrize(
    ("measured", "own", "items"),
    [
        pytest.param({"x": 2.0}, None, TARGET_SECONDS / 2, id="of its kind"),
        pytest.param({"x": 2.0}, {}, 2, id="of its kind, while it has not measured itself"),
        pytest.param({"x": 2.0}, {"x": 6.0}, TARGET_SECONDS / 6, id="its own"),
        pytest.param({"x": 2.0, "y": 1.0}, {"y": 3.0}, TARGET_SECONDS / 6, id="its own pace"),
        pytest.param({}, None, 2, id="never"),
        pytest.param({"y": 2.0}, {"y": 2.0}, 2, id="another kind of work"),
    ],
)
def test_long_tasks_are_for_measured_speeds(
    card: Make,
    worker_of: Make,
    measured: dict[str, float],
    own: dict[str, float] | None,
    items: float,
) -> None:
    worker = worker_of(
        card(24, 2), seconds_per_image=measured, own_seconds_per_image=own, tflops=0.001
    )
    assert claim_of(worker, x_group(claimable=10**6)).items == items


def test_a_trial_is_no_longer_than_its_target_by_the_guess(card: Make, worker_of: Make) -> None:
    worker = worker_of(card(24, 2))
    guess = seconds_per_image(NEEDS, worker.capability)
    items = claim_of(worker, x_group(claimable=10**6, batch_size=4)).items
    assert items == 8
    assert items * guess < TRIAL_SECONDS


# Many small groups


def small_groups(count: int, **overrides: Any) -> list[OpenGroup]:
    return [x_group(group_id=number, claimable=1, **overrides) for number in range(1, count + 1)]


def test_small_groups_of_a_job_are_cut_together_up_to_the_target(
    card: Make, worker_of: Make
) -> None:
    worker = worker_of(card(24, 2, seconds_per_image={"x": 1.0}), more_groups=True)
    claim = claim_of(worker, *small_groups(1000))
    assert (claim.group_id, claim.items) == (1, 1)
    assert claim.also == tuple(range(2, int(TARGET_SECONDS) + 1))


def test_small_groups_are_shared_out_when_all_are_in_view(card: Make, worker_of: Make) -> None:
    worker = worker_of(card(24, 4, seconds_per_image={"x": 1.0}))
    claim = claim_of(worker, *small_groups(80))
    assert 1 + len(claim.also) == 80 / 4 / 2


def test_a_group_that_would_not_go_in_whole_is_left_to_the_next_claim(
    card: Make, worker_of: Make
) -> None:
    worker = worker_of(card(24, 2, seconds_per_image={"x": 1.0}), more_groups=True)
    groups = [x_group(group_id=1, claimable=100), x_group(group_id=2, claimable=100)]
    assert claim_of(worker, *groups).also == ()


def test_only_groups_of_the_same_job_and_model_are_cut_together(
    card: Make, worker_of: Make
) -> None:
    speeds = {"x": 1.0, "y": 1.0, "x large": 1.0}
    worker = worker_of(card(24, 1, seconds_per_image=speeds), loaded_model="x")
    groups = [
        x_group(group_id=1, claimable=1),
        x_group(group_id=2, claimable=1, job_id=2),
        x_group(group_id=3, claimable=1, model="y", profile_key="y"),
        x_group(group_id=4, claimable=1, profile_key="x large"),
        x_group(group_id=5, claimable=1),
    ]
    claim = claim_of(worker, *groups)
    assert (claim.group_id, claim.also) == (1, (5, 4))


def test_half_batches_count_as_whole_ones(card: Make, worker_of: Make) -> None:
    worker = worker_of(card(24, 1, seconds_per_image={"x": 1.0}), more_groups=True)
    groups = [x_group(group_id=n, claimable=1, batch_size=8) for n in range(1, 100)]
    taken = 1 + len(claim_of(worker, *groups).also)
    assert taken == math.ceil(TARGET_SECONDS / 8)
