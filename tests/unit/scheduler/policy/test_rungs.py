"""Claims by rung of the memory ladder, corrected by what was seen of memory."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from scheduler.policy import allowed_fit, choose, explain
from storage.contract.capability import Capability, Mode, ModeNeed, Requirements, Seen
from storage.contract.claims import Claim, Declined, FleetPart, OpenGroup, WorkerView
from storage.contract.classes import GIB
from storage.testing.factories import make_capability, make_open_group

NOW = 1_000_000.0
NEEDS = Requirements(
    modes=(
        ModeNeed(mode=Mode.RESIDENT, memory_bytes=20 * GIB),
        ModeNeed(mode=Mode.PHASED, memory_bytes=10 * GIB),
        ModeNeed(mode=Mode.PHASED, memory_bytes=6 * GIB, tiled=True),
        ModeNeed(mode=Mode.PHASED, memory_bytes=4 * GIB, batch=1, tiled=True),
    ),
    tflop_per_image=1.0,
)


def card(gib: int) -> Capability:
    return make_capability(device="cuda:0", kind="Card", name="Card", vram_bytes=gib * GIB)


def part(gib: int, *seen: Seen) -> FleetPart:
    return FleetPart(
        kind="Card", vram_bytes=gib * GIB, ram_bytes=64 * GIB, count=1, seen={"p": seen}
    )


def group(**overrides: Any) -> OpenGroup:
    return make_open_group(**({"requirements": NEEDS, "profile_key": "p"} | overrides))


def decided(gib: int, *seen: Seen, **worker: Any) -> Claim | Declined:
    view = WorkerView(capability=card(gib), seen={"p": seen}, **worker)
    return choose([group()], view, NOW)


def rung_of(decision: Claim | Declined) -> tuple[str, int, bool] | None:
    if isinstance(decision, Declined):
        return None
    return decision.mode.value, decision.batch, decision.tiled


@pytest.mark.parametrize(
    ("gib", "rung"),
    [
        (24, ("resident", 0, False)),
        (12, ("phased", 0, False)),
        (8, ("phased", 0, True)),
        (5, ("phased", 1, True)),
        (3, None),
    ],
)
def test_a_claim_names_the_best_rung_the_worker_has_memory_for(
    gib: int, rung: tuple[str, int, bool] | None
) -> None:
    decision = decided(gib)
    assert rung_of(decision) == rung
    if isinstance(decision, Claim):
        fit = NEEDS.fit(card(gib))
        assert fit is not None
        assert decision.memory_bytes == fit.memory_bytes


def test_what_ran_out_of_memory_on_the_workers_kind_is_passed_over() -> None:
    failed = Seen(mode=Mode.RESIDENT, failed_bytes=24 * GIB)
    assert rung_of(decided(24, failed)) == ("phased", 0, False)
    assert rung_of(decided(25, failed)) == ("resident", 0, False)


def test_a_measured_peak_lets_a_smaller_card_have_it() -> None:
    assert rung_of(decided(16)) == ("phased", 0, False)
    peak = Seen(mode=Mode.RESIDENT, peak_bytes=15 * GIB)
    assert rung_of(decided(16, peak)) == ("resident", 0, False)


def test_what_others_hold_of_the_device_is_not_counted_on() -> None:
    assert rung_of(decided(24, room_bytes=9 * GIB)) == ("phased", 0, True)
    assert rung_of(decided(24, room_bytes=99 * GIB)) == ("resident", 0, False)
    declined = decided(24, room_bytes=2 * GIB)
    assert isinstance(declined, Declined)
    assert declined.reasons == ("it needs 4.0 GiB of VRAM (phased); Card has 2.0 GiB",)


def test_a_full_card_is_not_taken_for_a_cpu() -> None:
    on_cpu = Requirements(modes=(ModeNeed(mode=Mode.CPU, memory_bytes=1),))
    view = WorkerView(capability=card(24), room_bytes=0)
    assert isinstance(choose([group(requirements=on_cpu)], view, NOW), Declined)


def test_a_cpu_whose_memory_others_hold_declines() -> None:
    on_cpu = Requirements(modes=(ModeNeed(mode=Mode.CPU, memory_bytes=4 * GIB),))
    view = WorkerView(capability=make_capability(), room_bytes=GIB)
    assert isinstance(choose([group(requirements=on_cpu)], view, NOW), Declined)


def test_each_kind_of_device_is_judged_by_what_was_seen_on_it() -> None:
    failed = Seen(mode=Mode.PHASED, batch=1, tiled=True, failed_bytes=8 * GIB)
    assert allowed_fit(group(), part(8)) is not None
    assert allowed_fit(group(), part(8, failed)) is None
    assert allowed_fit(group(), part(12, failed)) is not None


def test_a_group_that_ran_out_everywhere_says_what_it_needs_and_what_there_is() -> None:
    failed = Seen(mode=Mode.PHASED, batch=1, tiled=True, failed_bytes=8 * GIB)
    assert explain(group(), [part(8, failed)]) == [
        "needs 8.1 GiB of VRAM (phased); the largest live worker has 8.0 GiB"
    ]
    assert explain(group(), [part(8, failed), part(12, failed)]) == []


def test_small_groups_are_taken_along_only_from_the_same_rung() -> None:
    resident = msgspec.structs.replace(
        NEEDS, modes=(ModeNeed(mode=Mode.PHASED, memory_bytes=1 * GIB),)
    )
    groups = [
        group(group_id=1, claimable=1, batch_size=1),
        group(group_id=2, claimable=1, batch_size=1),
        group(group_id=3, claimable=1, batch_size=1, profile_key="q", requirements=resident),
    ]
    view = WorkerView(capability=card(8), own_seconds_per_image={"p": 0.1, "q": 0.1})
    decision = choose(groups, view, NOW)
    assert isinstance(decision, Claim)
    taken = {decision.group_id, *decision.also}
    assert taken in ({1, 2}, {3})
