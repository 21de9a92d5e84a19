"""Who claims what, and how much."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.estimate import seconds_per_image
from scheduler.policy import (
    MAX_LEASE_SECONDS,
    MAX_TASK_ITEMS,
    MIN_LEASE_SECONDS,
    TARGET_SECONDS,
    TRIAL_SECONDS,
    choose,
    chunk,
    expected_seconds,
    lease_seconds,
)
from storage.contract.capability import Capability, Mode, ModeNeed, Requirements
from storage.contract.claims import Claim, Declined, OpenGroup, WorkerView
from storage.contract.classes import GIB
from storage.testing.factories import make_capability, make_open_group, make_requirements

NOW = 1_000_000.0
GPU = make_capability(
    device="cuda:0", kind="Test 24", name="Test 24", vram_bytes=24 * GIB, ram_bytes=64 * GIB
)


def make_worker(**overrides: Any) -> WorkerView:
    return WorkerView(**({"capability": make_capability()} | overrides))


def claimed(groups: list[OpenGroup], worker: WorkerView) -> Claim:
    decision = choose(groups, worker, NOW)
    assert isinstance(decision, Claim)
    return decision


NEEDS = st.builds(
    lambda cpu, gpu: make_requirements(cpu, resident=gpu),
    st.integers(1, 16 * GIB),
    st.integers(1, 48 * GIB),
)
GROUPS = st.builds(
    OpenGroup,
    group_id=st.integers(1, 1000),
    job_id=st.integers(1, 5),
    model=st.sampled_from(["a", "b", "c"]),
    priority=st.integers(-3, 3),
    claimable=st.integers(1, 10**9),
    batch_size=st.integers(1, 16),
    requirements=NEEDS,
    profile_key=st.sampled_from(["x", "y"]),
)
OPEN = st.lists(GROUPS, max_size=8, unique_by=lambda group: group.group_id)
WORKERS = st.builds(
    WorkerView,
    capability=st.sampled_from([make_capability(), GPU]),
    loaded_model=st.sampled_from([None, "a", "b"]),
    seconds_per_image=st.dictionaries(
        st.sampled_from(["x", "y"]), st.floats(0, 1e6, allow_nan=False), max_size=2
    ),
    tflops=st.none() | st.floats(1e-3, 1e3),
    fleet_share=st.floats(1e-6, 1.0),
)


# How much


@given(GROUPS, WORKERS)
def test_a_claim_is_of_whole_batches_and_at_least_one(group: OpenGroup, worker: WorkerView) -> None:
    items = chunk(group, worker)
    assert items >= group.batch_size
    assert items % group.batch_size == 0


@given(GROUPS, WORKERS)
def test_a_claim_is_never_more_than_there_is_rounded_up_to_a_batch(
    group: OpenGroup, worker: WorkerView
) -> None:
    whole = math.ceil(group.claimable / group.batch_size) * group.batch_size
    assert chunk(group, worker) <= min(whole, MAX_TASK_ITEMS + group.batch_size)


@given(GROUPS, WORKERS)
def test_a_claim_lasts_no_longer_than_its_target_unless_one_batch_does(
    group: OpenGroup, worker: WorkerView
) -> None:
    seconds, measured = expected_seconds(group, worker)
    target = TARGET_SECONDS if measured else TRIAL_SECONDS
    batch = seconds * group.batch_size
    assert chunk(group, worker) * seconds <= max(target + batch, batch) * (1 + 1e-9)


@given(GROUPS, WORKERS, st.integers(2, 1000))
def test_claims_shrink_as_the_work_runs_out(
    group: OpenGroup, worker: WorkerView, divisor: int
) -> None:
    less = make_open_group(
        claimable=max(1, group.claimable // divisor),
        batch_size=group.batch_size,
        requirements=group.requirements,
        profile_key=group.profile_key,
    )
    assert chunk(less, worker) <= chunk(group, worker)


def test_a_worker_takes_half_of_its_fair_share_of_what_is_left() -> None:
    group = make_open_group(claimable=1600, batch_size=4, profile_key="x")
    worker = make_worker(seconds_per_image={"x": 0.001}, fleet_share=0.25)
    assert chunk(group, worker) == 200


def test_a_worker_alone_takes_all_that_is_left() -> None:
    group = make_open_group(claimable=30, batch_size=4, profile_key="x")
    worker = make_worker(seconds_per_image={"x": 0.001}, fleet_share=1.0)
    assert chunk(group, worker) == 32


def test_all_work_is_claimed_in_not_many_more_tasks_than_needed() -> None:
    left, tasks = 10_000, 0
    worker = make_worker(seconds_per_image={"x": 0.01}, fleet_share=0.5)
    while left > 0:
        group = make_open_group(claimable=left, batch_size=4, profile_key="x")
        left -= chunk(group, worker)
        tasks += 1
    assert 5 <= tasks <= 60


@pytest.mark.parametrize(
    ("measured", "items"), [({"x": 2.0}, TARGET_SECONDS / 2), ({}, None), ({"y": 2.0}, None)]
)
def test_a_group_that_was_not_measured_here_is_tried_out(
    measured: dict[str, float], items: float | None
) -> None:
    group = make_open_group(claimable=10**6, batch_size=1, profile_key="x")
    worker = make_worker(seconds_per_image=measured, fleet_share=0.5)
    guess = seconds_per_image(group.requirements, worker.capability)
    assert chunk(group, worker) == math.ceil(items or TRIAL_SECONDS / guess)


def test_a_guess_uses_the_speed_that_was_measured_with_other_groups() -> None:
    needs = Requirements(modes=make_requirements().modes, tflop_per_image=8.0)
    group = make_open_group(requirements=needs)
    assert expected_seconds(group, make_worker(tflops=2.0)) == (4.0, False)


def test_a_measurement_of_no_time_at_all_divides_nothing_by_zero() -> None:
    group = make_open_group(claimable=10**9, batch_size=8, profile_key="x")
    assert chunk(group, make_worker(seconds_per_image={"x": 0.0})) == MAX_TASK_ITEMS


# Of which group


@given(OPEN, WORKERS)
def test_a_claim_is_of_the_most_urgent_group_that_fits(
    groups: list[OpenGroup], worker: WorkerView
) -> None:
    decision = choose(groups, worker, NOW)
    fitting = [one for one in groups if one.requirements.fit(worker.capability)]
    assert isinstance(decision, Claim) is bool(fitting)
    if isinstance(decision, Claim):
        (chosen,) = [one for one in groups if one.group_id == decision.group_id]
        assert chosen in fitting
        assert chosen.priority == max(one.priority for one in fitting)
        urgent = [one for one in fitting if one.priority == chosen.priority]
        loaded = [one for one in urgent if one.model == worker.loaded_model]
        # What needs no loading goes first, and then what came first.
        assert chosen == min(loaded or urgent, key=lambda one: (one.job_id, one.group_id))
        assert decision.items == chunk(chosen, worker)


@given(OPEN, WORKERS, st.randoms())
def test_the_order_in_which_groups_are_read_decides_nothing(
    groups: list[OpenGroup], worker: WorkerView, random: Any
) -> None:
    shuffled = list(groups)
    random.shuffle(shuffled)
    one, other = choose(groups, worker, NOW), choose(shuffled, worker, NOW)
    if isinstance(one, Declined) and isinstance(other, Declined):
        assert set(one.reasons) == set(other.reasons)
    else:
        assert one == other


def test_priority_goes_before_a_loaded_model() -> None:
    groups = [
        make_open_group(group_id=1, model="loaded", priority=0),
        make_open_group(group_id=2, model="cold", priority=1),
    ]
    assert claimed(groups, make_worker(loaded_model="loaded")).group_id == 2


def test_a_loaded_model_goes_before_an_older_job() -> None:
    groups = [
        make_open_group(group_id=1, job_id=1, model="cold"),
        make_open_group(group_id=2, job_id=2, model="loaded"),
    ]
    assert claimed(groups, make_worker(loaded_model="loaded")).group_id == 2


def test_an_urgent_group_that_does_not_fit_holds_nothing_up() -> None:
    groups = [
        make_open_group(group_id=1, priority=9, requirements=make_requirements(99 * GIB)),
        make_open_group(group_id=2),
    ]
    assert claimed(groups, make_worker()).group_id == 2


@pytest.mark.parametrize(
    ("vram", "mode"), [(24, Mode.RESIDENT), (12, Mode.LEAN), (6, Mode.PHASED), (0, Mode.CPU)]
)
def test_a_claim_is_in_the_fastest_mode_that_fits(vram: int, mode: Mode) -> None:
    needs = make_requirements(GIB, resident=20 * GIB, lean=11 * GIB, phased=5 * GIB)
    worker = make_worker(capability=make_capability(vram_bytes=vram * GIB))
    assert claimed([make_open_group(requirements=needs)], worker).mode is mode


# Declining


def test_without_groups_there_is_nothing_to_say() -> None:
    assert choose([], make_worker(), NOW) == Declined(reasons=())


@pytest.mark.parametrize(
    ("worker", "reason"),
    [
        (
            make_worker(),
            "it needs 12.5 GiB of memory (cpu); test CPU has 8.0 GiB",
        ),
        (
            make_worker(capability=GPU),
            "it needs 30.0 GiB of VRAM (lean); Test 24 has 24.0 GiB",
        ),
    ],
    ids=["CPU", "GPU"],
)
def test_a_worker_that_is_too_small_says_so_with_both_sizes(
    worker: WorkerView, reason: str
) -> None:
    needs = make_requirements(int(12.5 * GIB), resident=40 * GIB, lean=30 * GIB)
    assert choose([make_open_group(requirements=needs)], worker, NOW) == Declined(reasons=(reason,))


@pytest.mark.parametrize(
    ("capability", "mode", "kind"),
    [(GPU, Mode.CPU, "GPU"), (make_capability(), Mode.RESIDENT, "CPU")],
    ids=["GPU", "CPU"],
)
def test_a_kind_of_device_that_never_does_says_so(
    capability: Capability, mode: Mode, kind: str
) -> None:
    needs = Requirements(modes=(ModeNeed(mode=mode, memory_bytes=1),))
    worker = make_worker(capability=capability)
    declined = choose([make_open_group(requirements=needs)], worker, NOW)
    assert declined == Declined(reasons=(f"it cannot be rendered on a {kind}",))


@given(st.lists(st.integers(0, 3)), st.sampled_from([make_capability(), GPU]))
def test_a_reason_is_given_once_however_many_groups_have_it(
    sizes: list[int], capability: Capability
) -> None:
    groups = [
        make_open_group(
            group_id=number,
            requirements=make_requirements((20 + size) * GIB, resident=(40 + size) * GIB),
        )
        for number, size in enumerate(sizes)
    ]
    declined = choose(groups, make_worker(capability=capability), NOW)
    assert isinstance(declined, Declined)
    assert len(declined.reasons) == len(set(declined.reasons)) == len(set(sizes))


# Leases


@given(st.floats(0, 1e9))
def test_a_lease_lasts_some_batches_within_bounds(seconds: float) -> None:
    lasts = lease_seconds(seconds)
    assert MIN_LEASE_SECONDS <= lasts <= MAX_LEASE_SECONDS
    assert lasts > seconds or lasts == MAX_LEASE_SECONDS
