"""Who claims what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.policy import (
    MAX_TASK_ITEMS,
    STARVING_SECONDS,
    TARGET_SECONDS,
    TRIAL_SECONDS,
    choose,
    expected_seconds,
)
from storage.contract.capability import Mode
from storage.contract.claims import Claim, Declined, FleetPart, OpenGroup, WorkerView
from storage.contract.classes import GIB
from storage.testing.factories import make_capability, make_open_group, make_requirements

NOW = 1_000_000.0
GPU = make_capability(
    device="cuda:0", kind="Test 24", name="Test 24", vram_bytes=24 * GIB, ram_bytes=64 * GIB
)
CPU = make_capability()
ON_CARDS = make_requirements(999 * GIB, resident=6 * GIB)

Make = Callable[..., Any]


def make_worker(**overrides: Any) -> WorkerView:
    return WorkerView(**({"capability": make_capability()} | overrides))


def group_of(group_id: int, model: str = "a", **overrides: Any) -> OpenGroup:
    """A group on cards, of a job that was submitted just now."""
    values: dict[str, Any] = {
        "group_id": group_id,
        "model": model,
        "profile_key": model,
        "batch_size": 1,
        "requirements": ON_CARDS,
        "submitted_at": NOW - 1,
    }
    return make_open_group(**(values | overrides))


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
    priority=st.integers(-1, 1),
    claimable=st.integers(1, 10**9),
    batch_size=st.integers(1, 16),
    requirements=st.just(make_requirements(4 * GIB, resident=12 * GIB)),
    profile_key=st.sampled_from(["x", "y"]),
    submitter=st.sampled_from(["", "ann", "bob"]),
    submitted_at=st.sampled_from([0.0, NOW - 5, NOW - 1e5]),
    deadline_at=st.none() | st.floats(NOW - 10, NOW + 1e5),
    cpu=st.sampled_from(["auto", "never", "only"]),
    last_claimed_at=st.none() | st.floats(NOW - 1e5, NOW),
    leased=st.integers(0, 10**6),
    job_leases=st.integers(0, 50),
    submitter_leases=st.integers(0, 50),
)
OPEN = st.lists(GROUPS, max_size=8, unique_by=lambda group: group.group_id)
SPEEDS = st.dictionaries(
    st.sampled_from(["x", "y"]), st.floats(0, 1e6, allow_nan=False), max_size=2
)
PARTS = st.builds(
    FleetPart,
    kind=st.sampled_from(["cpu/1", "Test 24", "Test 6"]),
    vram_bytes=st.sampled_from([0, 6 * GIB, 24 * GIB]),
    ram_bytes=st.just(64 * GIB),
    count=st.integers(1, 1000),
    seconds_per_image=SPEEDS,
    loaded=st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 9), max_size=2),
)
WORKERS = st.builds(
    WorkerView,
    capability=st.sampled_from([CPU, GPU]),
    loaded_model=st.sampled_from([None, "a", "b"]),
    seconds_per_image=SPEEDS,
    own_seconds_per_image=st.none() | SPEEDS,
    tflops=st.none() | st.floats(1e-3, 1e3),
    load_seconds=st.dictionaries(st.sampled_from(["a", "b"]), st.floats(0, 100), max_size=2),
    fleet=st.lists(PARTS, max_size=4).map(tuple),
    more_groups=st.booleans(),
)


def allowed(group: OpenGroup, worker: WorkerView) -> bool:
    """Whether the worker may and can take the group, in plain words."""
    on_cpu = worker.capability.vram_bytes == 0
    if group.cpu == "never" and on_cpu:
        return False
    if group.cpu == "only" and not on_cpu:
        return False
    return group.requirements.fit(worker.capability) is not None


# What holds of every claim


@given(OPEN, WORKERS)
def test_a_claim_is_of_a_group_that_fits_in_the_mode_that_fits(
    groups: list[OpenGroup], worker: WorkerView
) -> None:
    decision = choose(groups, worker, NOW)
    if isinstance(decision, Claim):
        by_id = {group.group_id: group for group in groups}
        chosen = by_id[decision.group_id]
        assert allowed(chosen, worker)
        need = chosen.requirements.fit(worker.capability)
        assert need is not None
        assert decision.mode is need.mode


@given(OPEN, WORKERS)
def test_a_claim_is_never_more_than_there_is_rounded_up_to_a_batch(
    groups: list[OpenGroup], worker: WorkerView
) -> None:
    decision = choose(groups, worker, NOW)
    if isinstance(decision, Claim):
        (chosen,) = [group for group in groups if group.group_id == decision.group_id]
        whole = -(-chosen.claimable // chosen.batch_size) * chosen.batch_size
        assert chosen.batch_size <= decision.items <= min(whole, MAX_TASK_ITEMS)
        assert decision.items % chosen.batch_size == 0


@given(OPEN, WORKERS)
def test_a_claim_lasts_no_longer_than_its_target_unless_one_batch_does(
    groups: list[OpenGroup], worker: WorkerView
) -> None:
    decision = choose(groups, worker, NOW)
    if isinstance(decision, Claim):
        (chosen,) = [group for group in groups if group.group_id == decision.group_id]
        seconds, measured = expected_seconds(chosen, worker)
        target = TARGET_SECONDS if measured else TRIAL_SECONDS
        batch = seconds * chosen.batch_size
        assert decision.items * seconds <= (target + batch) * (1 + 1e-9)


@given(OPEN, WORKERS)
def test_neighbours_are_other_groups_of_the_same_job_and_model(
    groups: list[OpenGroup], worker: WorkerView
) -> None:
    decision = choose(groups, worker, NOW)
    if isinstance(decision, Claim):
        by_id = {group.group_id: group for group in groups}
        chosen = by_id[decision.group_id]
        assert len({decision.group_id, *decision.also}) == 1 + len(decision.also)
        for near in map(by_id.__getitem__, decision.also):
            assert (near.job_id, near.model) == (chosen.job_id, chosen.model)
            assert allowed(near, worker)


@given(OPEN, WORKERS)
def test_a_worker_alone_declines_only_what_it_cannot_do(
    groups: list[OpenGroup], worker: WorkerView
) -> None:
    alone = WorkerView(
        capability=worker.capability,
        loaded_model=worker.loaded_model,
        seconds_per_image=worker.seconds_per_image,
    )
    decision = choose(groups, alone, NOW)
    assert isinstance(decision, Claim) is any(allowed(group, alone) for group in groups)


@given(OPEN, WORKERS)
def test_a_claim_is_of_the_highest_priority_that_a_worker_alone_can_do(
    groups: list[OpenGroup], worker: WorkerView
) -> None:
    alone = WorkerView(capability=worker.capability, loaded_model=worker.loaded_model)
    decision = choose(groups, alone, NOW)
    if isinstance(decision, Claim):
        (chosen,) = [group for group in groups if group.group_id == decision.group_id]
        assert chosen.priority == max(g.priority for g in groups if allowed(g, alone))


@given(st.lists(GROUPS, max_size=8, unique_by=lambda group: group.group_id), WORKERS, st.randoms())
def test_the_order_in_which_groups_are_read_decides_nothing(
    groups: list[OpenGroup], worker: WorkerView, random: Any
) -> None:
    shuffled = list(groups)
    random.shuffle(shuffled)
    assert choose(groups, worker, NOW) == choose(shuffled, worker, NOW)


# Priority and fit


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
        make_open_group(group_id=2, profile_key="other"),
    ]
    assert claimed(groups, make_worker()).group_id == 2


@pytest.mark.parametrize(
    ("vram", "mode"), [(24, Mode.RESIDENT), (12, Mode.LEAN), (6, Mode.PHASED), (0, Mode.CPU)]
)
def test_a_claim_is_in_the_fastest_mode_that_fits(vram: int, mode: Mode) -> None:
    needs = make_requirements(GIB, resident=20 * GIB, lean=11 * GIB, phased=5 * GIB)
    worker = make_worker(capability=make_capability(vram_bytes=vram * GIB))
    assert claimed([make_open_group(requirements=needs)], worker).mode is mode


def test_what_a_large_card_alone_can_do_goes_first_to_it(card: Make, worker_of: Make) -> None:
    speeds = {"a": 1.0, "huge": 1.0}
    small, large = (
        card(8, 10, seconds_per_image={"a": 1.0}),
        card(24, 1, seconds_per_image=speeds),
    )
    groups = [
        group_of(1, "a", claimable=1000),
        group_of(2, "huge", claimable=1000, requirements=make_requirements(resident=20 * GIB)),
    ]
    assert claimed(groups, worker_of(large, small)).group_id == 2
    assert claimed(groups, worker_of(small, large)).group_id == 1


# Models


def test_workers_spread_over_models_in_proportion_to_the_work(card: Make, worker_of: Make) -> None:
    groups = [group_of(1, "a", claimable=6000), group_of(2, "b", claimable=2000)]
    loaded: dict[str, int] = {}
    for _ in range(8):
        part = card(24, 8, seconds_per_image={"a": 1.0, "b": 1.0}, loaded=dict(loaded))
        model = "a" if claimed(groups, worker_of(part)).group_id == 1 else "b"
        loaded[model] = loaded.get(model, 0) + 1
    assert loaded == {"a": 6, "b": 2}


def test_a_worker_leaves_its_model_for_one_that_would_end_much_later(
    card: Make, worker_of: Make
) -> None:
    speeds = {"a": 1.0, "b": 1.0}
    part = card(24, 8, seconds_per_image=speeds, loaded={"a": 6, "b": 2})
    worker = worker_of(part, loaded_model="a", load_seconds={"b": 20.0})
    far_off = [group_of(1, "a", claimable=1000), group_of(2, "b", claimable=5000)]
    even = [group_of(1, "a", claimable=3000), group_of(2, "b", claimable=1000)]
    assert claimed(far_off, worker).group_id == 2
    assert claimed(even, worker).group_id == 1


def test_a_model_is_not_loaded_for_a_tiny_rest(card: Make, worker_of: Make) -> None:
    part = card(24, 4, seconds_per_image={"a": 1.0, "b": 1.0}, loaded={"a": 1, "b": 3})
    rest = [group_of(2, "b", claimable=9)]
    joining = worker_of(part, loaded_model="a", load_seconds={"b": 20.0})
    there = worker_of(part, loaded_model="b")
    assert isinstance(choose(rest, joining, NOW), Declined)
    assert isinstance(choose(rest, there, NOW), Claim)


def test_a_tiny_rest_that_nobody_took_is_taken_after_all(card: Make, worker_of: Make) -> None:
    part = card(24, 4, seconds_per_image={"a": 1.0, "b": 1.0}, loaded={"a": 1, "b": 3})
    joining = worker_of(part, loaded_model="a", load_seconds={"b": 20.0})
    rest = [group_of(2, "b", claimable=9, submitted_at=NOW - 100, last_claimed_at=NOW - 60)]
    assert isinstance(choose(rest, joining, NOW), Claim)


def test_a_slow_card_leaves_the_last_batch_to_a_fast_one(card: Make, worker_of: Make) -> None:
    fast = card(24, 2, seconds_per_image={"a": 1.0}, loaded={"a": 2})
    slow = card(8, 2, seconds_per_image={"a": 10.0}, loaded={"a": 2})
    last, more = [group_of(1, claimable=1)], [group_of(1, claimable=50)]
    assert isinstance(choose(last, worker_of(slow, fast, loaded_model="a"), NOW), Declined)
    assert isinstance(choose(last, worker_of(fast, slow, loaded_model="a"), NOW), Claim)
    assert isinstance(choose(more, worker_of(slow, fast, loaded_model="a"), NOW), Claim)


def test_of_all_that_could_take_the_last_batch_one_does(card: Make, worker_of: Make) -> None:
    parts = [
        card(gib, 3, seconds_per_image={"a": 24.0 / gib}, loaded={"a": 3}) for gib in (8, 12, 24)
    ]
    takers = [
        part.kind
        for part in parts
        if isinstance(
            choose(
                [group_of(1, claimable=1)],
                worker_of(part, *(other for other in parts if other is not part), loaded_model="a"),
                NOW,
            ),
            Claim,
        )
    ]
    assert "card 24" in takers


# CPUs


@pytest.mark.parametrize(
    ("cpu", "capability", "taken"),
    [
        ("never", CPU, False),
        ("never", GPU, True),
        ("only", CPU, True),
        ("only", GPU, False),
        ("auto", CPU, True),
        ("auto", GPU, True),
    ],
)
def test_a_job_says_whether_cpus_may_take_it(cpu: str, capability: Any, taken: bool) -> None:
    group = make_open_group(cpu=cpu, requirements=make_requirements(resident=GIB))
    decision = choose([group], make_worker(capability=capability), NOW)
    assert isinstance(decision, Claim) is taken


def test_a_cpu_helps_while_a_gpu_is_long_busy_but_leaves_it_the_end(
    card: Make, worker_of: Make
) -> None:
    needs = make_requirements(resident=GIB)
    gpu = card(24, 1, seconds_per_image={"a": 1.0}, loaded={"a": 1})
    cpus = card(0, 4, seconds_per_image={"a": 60.0}, loaded={"a": 4})
    worker = worker_of(cpus, gpu, loaded_model="a")
    long, short = (
        [group_of(1, claimable=count, requirements=needs, last_claimed_at=NOW - 1)]
        for count in (1000, 20)
    )
    assert isinstance(choose(long, worker, NOW), Claim)
    assert isinstance(choose(short, worker, NOW), Declined)


def test_a_cpu_does_not_wait_for_ever_for_a_gpu_that_does_something_else(
    card: Make, worker_of: Make
) -> None:
    needs = make_requirements(resident=GIB)
    gpu = card(24, 1, seconds_per_image={"a": 1.0}, loaded={"b": 1})
    cpus = card(0, 1, seconds_per_image={"a": 60.0}, loaded={"a": 1})
    worker = worker_of(cpus, gpu, loaded_model="a")
    fresh = [group_of(1, claimable=10, requirements=needs)]
    waiting = [group_of(1, claimable=10, requirements=needs, submitted_at=NOW - 40)]
    assert isinstance(choose(fresh, worker, NOW), Declined)
    assert isinstance(choose(waiting, worker, NOW), Claim)


# Between jobs


def test_the_submitter_with_least_under_lease_goes_first() -> None:
    groups = [
        make_open_group(group_id=1, job_id=1, submitter="ann", submitter_leases=3, job_leases=1),
        make_open_group(group_id=2, job_id=2, submitter="bob", submitter_leases=1, job_leases=1),
    ]
    assert claimed(groups, make_worker()).group_id == 2


def test_of_one_submitter_the_job_with_least_under_lease_goes_first() -> None:
    groups = [
        make_open_group(group_id=1, job_id=1, submitter_leases=3, job_leases=2),
        make_open_group(group_id=2, job_id=2, submitter_leases=3, job_leases=1),
    ]
    assert claimed(groups, make_worker()).group_id == 2


@pytest.mark.parametrize(
    ("mine", "theirs", "chosen"), [(4, 1, 2), (2, 1, 2), (1, 1, 1), (1, 0, 2), (0, 0, 1)]
)
def test_a_loaded_model_is_no_excuse_for_a_share_that_is_far_behind(
    mine: int, theirs: int, chosen: int
) -> None:
    groups = [
        make_open_group(group_id=1, job_id=1, model="loaded", profile_key="l", job_leases=mine),
        make_open_group(group_id=2, job_id=2, model="cold", profile_key="c", job_leases=theirs),
    ]
    assert claimed(groups, make_worker(loaded_model="loaded")).group_id == chosen


def test_a_job_that_waited_too_long_goes_before_a_loaded_model() -> None:
    for waited, chosen in ((STARVING_SECONDS - 1, 1), (STARVING_SECONDS + 1, 2)):
        groups = [
            group_of(1, "loaded", job_id=1, last_claimed_at=NOW - 1),
            group_of(2, "cold", job_id=2, submitted_at=NOW - waited),
        ]
        worker = make_worker(capability=GPU, loaded_model="loaded")
        assert claimed(groups, worker).group_id == chosen


def test_a_deadline_that_would_be_missed_goes_first(card: Make, worker_of: Make) -> None:
    worker = worker_of(card(24, 1, seconds_per_image={"a": 1.0}), loaded_model="a")
    for slack, chosen in ((10_000.0, 1), (150.0, 2), (-1.0, 1)):
        groups = [
            group_of(1, job_id=1),
            group_of(2, job_id=2, job_leases=1, deadline_at=NOW + slack),
        ]
        assert claimed(groups, worker).group_id == chosen


def test_of_two_deadlines_the_one_with_least_slack_goes_first(card: Make, worker_of: Make) -> None:
    worker = worker_of(card(24, 1, seconds_per_image={"a": 1.0}), loaded_model="a")
    groups = [
        group_of(1, job_id=1, deadline_at=NOW + 190),
        group_of(2, job_id=2, deadline_at=NOW + 180),
    ]
    assert claimed(groups, worker).group_id == 2


# Declining


def test_without_groups_there_is_nothing_to_say() -> None:
    assert choose([], make_worker(), NOW) == Declined(reasons=())


@given(st.lists(st.integers(0, 3)), st.sampled_from([CPU, GPU]))
def test_a_reason_is_given_once_however_many_groups_have_it(
    sizes: list[int], capability: Any
) -> None:
    groups = [
        make_open_group(
            group_id=number,
            profile_key=f"size {size}",
            requirements=make_requirements((20 + size) * GIB, resident=(40 + size) * GIB),
        )
        for number, size in enumerate(sizes)
    ]
    declined = choose(groups, make_worker(capability=capability), NOW)
    assert isinstance(declined, Declined)
    assert len(declined.reasons) == len(set(declined.reasons)) == len(set(sizes))
