"""Why a worker takes nothing, and why a group does not move."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from scheduler.policy import choose, explain
from storage.contract.capability import Capability, Mode, ModeNeed, Requirements
from storage.contract.claims import Declined, FleetPart, WorkerView
from storage.contract.classes import GIB
from storage.testing.factories import make_capability, make_open_group, make_requirements

NOW = 1_000_000.0
CPU = make_capability()
GPU = make_capability(
    device="cuda:0", kind="Test 24", name="Test 24", vram_bytes=24 * GIB, ram_bytes=64 * GIB
)
BIG = make_requirements(int(12.5 * GIB), resident=40 * GIB, lean=30 * GIB)

Make = Callable[..., Any]


def reasons_of(capability: Capability, **overrides: Any) -> tuple[str, ...]:
    worker = WorkerView(capability=capability)
    declined = choose([make_open_group(**overrides)], worker, NOW)
    assert isinstance(declined, Declined)
    return declined.reasons


@pytest.mark.parametrize(
    ("capability", "reason"),
    [
        (CPU, "it needs 12.5 GiB of memory (cpu); test CPU has 8.0 GiB"),
        (GPU, "it needs 30.0 GiB of VRAM (lean); Test 24 has 24.0 GiB"),
    ],
    ids=["CPU", "GPU"],
)
def test_a_worker_that_is_too_small_says_so_with_both_sizes(
    capability: Capability, reason: str
) -> None:
    assert reasons_of(capability, requirements=BIG) == (reason,)


@pytest.mark.parametrize(
    ("capability", "mode", "kind"),
    [(GPU, Mode.CPU, "GPU"), (CPU, Mode.RESIDENT, "CPU")],
    ids=["GPU", "CPU"],
)
def test_a_kind_of_device_that_never_does_says_so(
    capability: Capability, mode: Mode, kind: str
) -> None:
    needs = Requirements(modes=(ModeNeed(mode=mode, memory_bytes=1),))
    reasons = reasons_of(capability, requirements=needs)
    assert reasons == (f"it cannot be rendered on a {kind}",)


@pytest.mark.parametrize(
    ("capability", "cpu", "reason"),
    [
        (CPU, "never", "its job keeps CPUs out (--cpu never)"),
        (GPU, "only", "its job is for CPUs only (--cpu only)"),
    ],
)
def test_a_worker_that_the_job_keeps_out_says_so(
    capability: Capability, cpu: str, reason: str
) -> None:
    needs = make_requirements(resident=GIB)
    assert reasons_of(capability, cpu=cpu, requirements=needs) == (reason,)


def test_a_worker_that_could_not_help_in_time_says_so(card: Make, worker_of: Make) -> None:
    part = card(24, 2, seconds_per_image={"b": 1.0}, loaded={"a": 1, "b": 1})
    worker = worker_of(part, loaded_model="a", load_seconds={"b": 20.0})
    group = make_open_group(
        model="b",
        profile_key="b",
        claimable=3,
        batch_size=1,
        submitted_at=NOW,
        requirements=make_requirements(resident=GIB),
    )
    declined = choose([group], worker, NOW)
    assert declined == Declined(
        reasons=("the others will have ended it before card 24 could help",)
    )


# Why a job does not move


@pytest.mark.parametrize(
    ("cpu", "gib", "said"),
    [
        (
            "auto",
            [8, 4],
            [
                "needs 9.1 GiB of VRAM (phased); the largest live worker has 8.0 GiB",
                "needs 99.0 GiB of memory (cpu); no live worker has a CPU",
            ],
        ),
        (
            "auto",
            [0],
            [
                "needs 9.1 GiB of VRAM (phased); no live worker has a GPU",
                "needs 99.0 GiB of memory (cpu); the largest live worker has 64.0 GiB",
            ],
        ),
        (
            "never",
            [0],
            [
                "needs 9.1 GiB of VRAM (phased); no live worker has a GPU",
                "its job keeps CPUs out (--cpu never)",
            ],
        ),
        (
            "only",
            [24],
            [
                "its job is for CPUs only (--cpu only)",
                "needs 99.0 GiB of memory (cpu); no live worker has a CPU",
            ],
        ),
        ("auto", [8, 12], []),
        ("auto", [], ["no worker is live; start one with: rendermill worker"]),
    ],
)
def test_a_group_that_nobody_can_take_is_explained_by_the_largest_there_is(
    card: Make, cpu: str, gib: list[int], said: list[str]
) -> None:
    needs = make_requirements(99 * GIB, resident=20 * GIB, phased=int(9.1 * GIB))
    group = make_open_group(requirements=needs, cpu=cpu)
    assert explain(group, [card(size) for size in gib]) == said


def test_a_kind_of_which_none_is_left_helps_nobody(card: Make) -> None:
    gone: FleetPart = card(24, 0)
    group = make_open_group(requirements=make_requirements(resident=GIB))
    assert explain(group, [gone]) == ["no worker is live; start one with: rendermill worker"]
