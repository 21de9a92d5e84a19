from __future__ import annotations

from storage.contract.claims import ClaimedTask
from storage.contract.classes import GIB
from storage.contract.states import Entity
from storage.db import profiles, tasks
from storage.db.engine import Ledger
from storage.db.transitions import advance
from storage.objects.memory import MemoryStore
from storage.testing.factories import (
    add_job,
    add_worker,
    make_capability,
    make_failure,
    make_item,
    make_requirements,
    make_spec,
    ref_of,
)
from workers.claiming import Claimer

MANY = [make_item(number) for number in range(1000)]


def claimer_of(ledger: Ledger, worker_id: int, job_id: int | None = None) -> Claimer:
    return Claimer(ledger, worker_id, make_capability(), job_id=job_id)


def test_a_claim_of_nothing_gives_no_reason(ledger: Ledger, worker_id: int) -> None:
    claimer = claimer_of(ledger, worker_id)

    assert claimer.claim(None) == ()
    assert claimer.declined == ()


def test_what_cannot_fit_is_declined_in_words(
    ledger: Ledger, store: MemoryStore, worker_id: int
) -> None:
    add_job(ledger, store, requirements=make_requirements(cpu_bytes=12 * GIB))
    claimer = claimer_of(ledger, worker_id)

    assert claimer.claim(None) == ()
    assert claimer.declined == ("it needs 12.0 GiB of memory (cpu); test CPU has 8.0 GiB",)


def test_a_worker_of_one_job_leaves_the_others_alone(
    ledger: Ledger, store: MemoryStore, worker_id: int
) -> None:
    add_job(ledger, store, name="urgent", priority=10)
    mine = add_job(ledger, store, name="mine")

    (task,) = claimer_of(ledger, worker_id, mine.id).claim(None)

    assert task.job_name == "mine"


def test_a_paused_job_is_not_claimed_from(
    ledger: Ledger, store: MemoryStore, worker_id: int
) -> None:
    job = add_job(ledger, store)
    with ledger.write() as connection:
        advance(connection, Entity.JOB, job.id, "pause", now=1.0)

    assert claimer_of(ledger, worker_id).claim(None) == ()


def test_a_group_that_rests_after_a_failure_does_not_hold_up_the_next_one(
    ledger: Ledger, store: MemoryStore, worker_id: int
) -> None:
    add_job(ledger, store, name="failing", priority=5)
    add_job(ledger, store, name="waiting")
    claimer = claimer_of(ledger, worker_id)
    (first,) = claimer.claim(None)
    failure = make_failure(at=ledger.now())
    with ledger.write() as connection:
        tasks.fail(connection, ref_of(first), failure)

    (task,) = claimer.claim(None)

    assert (first.job_name, task.job_name) == ("failing", "waiting")


def test_two_workers_get_smaller_and_smaller_pieces_that_never_meet(
    ledger: Ledger, store: MemoryStore, worker_id: int
) -> None:
    spec = make_spec(denoise=4)
    add_job(ledger, store, MANY, spec=spec)
    _measured(ledger, spec.profile_key, seconds_per_image=0.01)
    other = add_worker(ledger, pid=2, now=ledger.now())
    claimers = [claimer_of(ledger, worker_id), claimer_of(ledger, other)]

    cut: list[ClaimedTask] = []
    while claimed := claimers[len(cut) % 2].claim("starter"):
        claimers[len(cut) % 2].note_speed(claimed[0], 0.01)
        cut += claimed

    taken = [item for task in cut for item in range(task.first_item, task.stop_item)]
    assert taken == list(range(1000))
    sizes = [task.items for task in cut]
    assert sizes[:2] == [8, 8]  # each tries two batches before it knows its own speed
    assert sizes[2:] == sorted(sizes[2:], reverse=True)
    assert sizes[2] > 200
    assert sizes[-1] == 4


def test_measured_speed_bounds_how_much_is_taken(
    ledger: Ledger, store: MemoryStore, worker_id: int
) -> None:
    spec = make_spec(denoise=4)
    add_job(ledger, store, MANY, spec=spec)
    _measured(ledger, spec.profile_key, seconds_per_image=6.0)

    claimer = claimer_of(ledger, worker_id)
    (trial,) = claimer.claim(None)
    claimer.note_speed(trial, 6.0)

    (task,) = claimer.claim("starter")

    assert task.items == 20  # 120 seconds' worth
    assert task.lease_seconds == 5 * 6.0 * 4


def test_what_ran_out_of_memory_is_not_claimed_again_by_the_like(
    ledger: Ledger, store: MemoryStore, worker_id: int
) -> None:
    spec = make_spec(denoise=4)
    job = add_job(ledger, store, MANY, spec=spec)
    claimer = claimer_of(ledger, worker_id)
    (task,) = claimer.claim(None)
    with ledger.write() as connection:
        profiles.did_not_fit(
            connection,
            profile_key=spec.profile_key,
            mode=task.mode,
            device_kind="cpu/1",
            room_bytes=8 * GIB,
            batch=1,
            tiled=True,
            now=ledger.now(),
        )
        tasks.hand_back(connection, ref_of(task), now=ledger.now())
    claimer.forget()

    assert claimer.claim(None) == ()
    assert claimer.declined == ("it needs 8.1 GiB of memory (cpu); test CPU has 8.0 GiB",)
    larger = make_capability(ram_bytes=16 * GIB)
    other = add_worker(ledger, pid=2, now=ledger.now())
    (again,) = Claimer(ledger, other, larger, job_id=job.id).claim(None)
    assert (again.first_item, again.failures) == (task.first_item, ())


def test_what_others_hold_of_the_device_now_is_left_alone(
    ledger: Ledger, store: MemoryStore, worker_id: int
) -> None:
    add_job(ledger, store, requirements=make_requirements(cpu_bytes=4 * GIB))
    room = [1 * GIB]
    claimer = Claimer(ledger, worker_id, make_capability(), job_id=None, room=lambda: room[0])

    assert claimer.claim(None) == ()
    assert claimer.declined == ("it needs 4.0 GiB of memory (cpu); test CPU has 1.0 GiB",)
    room[0] = 6 * GIB
    (task,) = claimer.claim(None)
    assert task.memory_bytes == 4 * GIB


def _measured(ledger: Ledger, profile_key: str, *, seconds_per_image: float) -> None:
    sample = profiles.Sample(
        profile_key=profile_key,
        mode="cpu",
        device_kind="cpu/1",
        images=100,
        seconds=100 * seconds_per_image,
        bytes=1,
        peak_bytes=1,
    )
    with ledger.write() as connection:
        profiles.add(connection, sample, now=1.0)
