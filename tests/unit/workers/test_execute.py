from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image

from storage.contract.capability import Mode, ModeNeed, Seen
from storage.contract.claims import ClaimedTask
from storage.contract.classes import GIB
from storage.contract.errors import (
    DeviceLost,
    Interrupted,
    LedgerError,
    ModelUnusable,
    OutOfMemory,
    RendermillError,
    StoreFull,
)
from storage.contract.items import BatchShape, GroupSpec
from storage.contract.outcomes import MAX_LAPSES, Failure, Outcome, Reason, exhausted
from storage.db import images, jobs, profiles, tasks
from storage.db.engine import Ledger
from storage.db.images import ImageFilter, ImageRow
from storage.db.ranges import decode_failures
from storage.db.tables import returned
from storage.objects.memory import MemoryStore
from storage.testing.factories import FakeClock, add_job, make_failure, make_item, make_spec, ref_of
from workers.engine.batching import Batch
from workers.engine.fake import FakeRenderer, pixels_of
from workers.engine.ports import Facts, Picture, Watch
from workers.execute import Tools, execute
from workers.heartbeat import Heartbeat
from workers.stopping import Stop

Claim = Callable[[], ClaimedTask]


def all_rows(ledger: Ledger) -> dict[int, ImageRow]:
    with ledger.read() as connection:
        found = images.page(connection, ImageFilter(), limit=1000)
        return {row.item: row for _, row in found}


def run_until_ended(ledger: Ledger, tools: Tools, claim: Claim) -> None:
    """Claim and execute until the job has ended; what waits for its time is soon due."""
    clock = itertools.count(1_000_000, 100)
    ledger.now = lambda: float(next(clock))  # type: ignore[method-assign]
    for _ in range(100):
        with ledger.read() as connection:
            if jobs.get(connection, 1).ended:
                return
        execute(claim(), tools)
    pytest.fail("the job does not end")


def test_every_item_becomes_one_stored_picture_and_one_row(
    ledger: Ledger, store: MemoryStore, tools: Tools, claim: Claim
) -> None:
    items = [make_item(n, tags={"kind": "a"}) for n in range(10)]
    add_job(ledger, store, items, spec=make_spec(denoise=4))

    run_until_ended(ledger, tools, claim)

    rows = all_rows(ledger)
    assert sorted(rows) == list(range(10))
    for number, row in rows.items():
        assert row.outcome == Outcome.RENDERED
        assert row.object_key is not None
        with Image.open(io.BytesIO(store.objects[row.object_key])) as picture:
            assert np.array_equal(np.asarray(picture), pixels_of(make_spec(), items[number]))
        assert row.thumbnail_key in store.objects
        assert row.bytes == len(store.objects[row.object_key])


def test_the_same_items_give_the_same_files_whatever_the_tasks_were(
    ledger: Ledger, store: MemoryStore, tools: Tools, claim: Claim
) -> None:
    add_job(ledger, store, name="one")
    run_until_ended(ledger, tools, claim)
    first = {k.rpartition("/")[2]: v for k, v in store.objects.items() if "renders/one" in k}
    store.objects.clear()
    add_job(ledger, store, name="one-b", spec=make_spec(denoise=4))
    with ledger.write() as connection:
        connection.exec_driver_sql("UPDATE jobs SET name = 'before' WHERE id = 1")
        connection.exec_driver_sql("UPDATE jobs SET name = 'one' WHERE id = 2")
    first_half = dataclasses.replace(tools, renderer=_Raising(Interrupted("test"), good=1))

    execute(claim(), first_half)
    execute(claim(), tools)

    again = {k.rpartition("/")[2]: v for k, v in store.objects.items() if "renders/one" in k}
    assert again == first


@pytest.mark.parametrize(
    ("order", "reason", "detail"),
    [
        ("!nan", Reason.NAN, "as ordered"),
        ("!constant", Reason.CONSTANT, "as ordered"),
        ("!error", Reason.ERROR, "RuntimeError: as ordered by item 5"),
    ],
)
def test_a_bad_item_fails_alone_with_its_reason(
    ledger: Ledger,
    store: MemoryStore,
    tools: Tools,
    claim: Claim,
    order: str,
    reason: Reason,
    detail: str,
) -> None:
    items = [make_item(n, prompt=order if n == 5 else f"fine {n}") for n in range(9)]
    add_job(ledger, store, items, spec=make_spec(denoise=4))

    run_until_ended(ledger, tools, claim)

    rows = all_rows(ledger)
    assert {n for n, row in rows.items() if row.outcome == Outcome.FAILED} == {5}
    assert rows[5].reason == reason
    assert detail in str(rows[5].detail)
    assert rows[5].object_key is None
    assert len(rows) == 9


class _Raising:
    """A renderer that gives `good` batches and then raises."""

    loaded_model = None

    def __init__(self, error: Exception, good: int = 0) -> None:
        self._error = error
        self._good = good
        self._inner = FakeRenderer()

    def render(
        self, spec: Any, mode: Any, batches: Sequence[Batch], watch: Watch
    ) -> Iterator[tuple[Facts, list[Picture]]]:
        yield from self._inner.render(spec, mode, batches[: self._good], watch)
        raise self._error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ModelUnusable("no weights", hint="fetch them"), Reason.MODEL),
        (OutOfMemory("needs more"), Reason.OUT_OF_MEMORY),
    ],
)
def test_what_concerns_all_items_alike_fails_them_together_after_three_attempts(
    ledger: Ledger,
    store: MemoryStore,
    tools: Tools,
    claim: Claim,
    error: Exception,
    reason: Reason,
) -> None:
    add_job(ledger, store, spec=make_spec(denoise=8))
    tools = _with_renderer(tools, _Raising(error))

    run_until_ended(ledger, tools, claim)

    rows = all_rows(ledger)
    assert {row.reason for row in rows.values()} == {reason}
    assert len(rows) == 8
    assert str(rows[0].detail).count("attempt") == 3


def _with_renderer(tools: Tools, renderer: Any) -> Tools:
    return dataclasses.replace(tools, renderer=renderer)


def test_pictures_finished_before_an_error_are_kept(
    ledger: Ledger, store: MemoryStore, tools: Tools, claim: Claim
) -> None:
    add_job(ledger, store, spec=make_spec(denoise=4))

    execute(claim(), _with_renderer(tools, _Raising(RuntimeError("boom"), good=1)))

    assert sorted(all_rows(ledger)) == [0, 1, 2, 3]
    with ledger.read() as connection:
        found = connection.exec_driver_sql(
            "SELECT first_item, stop_item FROM returned ORDER BY first_item"
        ).all()
    assert found == [(4, 6), (6, 8)]


@pytest.mark.parametrize("error", [DeviceLost("gone"), StoreFull("full"), LedgerError("no")])
def test_what_the_surroundings_did_is_raised_and_blames_no_item(
    ledger: Ledger, store: MemoryStore, tools: Tools, claim: Claim, error: RendermillError
) -> None:
    add_job(ledger, store)

    with pytest.raises(type(error)):
        execute(claim(), _with_renderer(tools, _Raising(error)))

    assert _claimable(ledger) == set(range(8))
    with ledger.read() as connection:
        kept = connection.execute(sa.select(returned.c.failures)).scalars().all()
    failures = tuple(one for text in kept for one in decode_failures(text))
    # A device is lost by what is rendered on it, at times: it is remembered, and blames nobody.
    lost = [Reason.DEVICE] if isinstance(error, DeviceLost) else []
    assert [one.reason for one in failures] == lost
    assert not exhausted(failures * (MAX_LAPSES - 1), 8)


def test_a_full_store_keeps_what_was_stored_and_hands_back_the_rest(
    ledger: Ledger, store: MemoryStore, tools: Tools, claim: Claim
) -> None:
    add_job(ledger, store, spec=make_spec(denoise=2))
    full = _FullAfter(store, pictures=3)
    with pytest.raises(StoreFull):
        execute(claim(), dataclasses.replace(tools, store=full))

    rows = all_rows(ledger)
    assert all(row.object_key in store.objects for row in rows.values())
    with ledger.read() as connection:
        job = jobs.get(connection, 1)
    assert job.done == len(rows)
    assert set(range(8)) - set(rows) == _claimable(ledger)


def _claimable(ledger: Ledger) -> set[int]:
    with ledger.read() as connection:
        found = connection.exec_driver_sql("SELECT first_item, stop_item FROM returned").all()
        fresh = connection.exec_driver_sql("SELECT next_item, stop_item FROM groups").all()
    return {item for first, stop in [*found, *fresh] for item in range(first, stop)}


class _FullAfter:
    """A store with room for some pictures."""

    def __init__(self, inner: MemoryStore, pictures: int) -> None:
        self._inner = inner
        self._room = pictures

    def put(self, key: str, data: bytes, **how: bool) -> None:
        if key.startswith("renders/"):
            self._room -= 1
            if self._room < 0:
                raise StoreFull
        self._inner.put(key, data, **how)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_a_lost_lease_leaves_the_items_to_the_others(
    ledger: Ledger, store: MemoryStore, tools: Tools, claim: Claim
) -> None:
    add_job(ledger, store)
    task = claim()
    lapsed = Failure(reason=Reason.LAPSED, detail="silent", worker_id=1, at=2.0)
    with ledger.write() as connection:
        tasks.lapse(connection, ref_of(task), now=2.0, failure=lapsed)

    execute(task, tools)

    assert all_rows(ledger) == {}
    assert _claimable(ledger) == set(range(8))


class _Elsewhere(FakeRenderer):
    """Another kind of device: its pictures' metadata, and so their files, differ."""

    def render(self, *args: Any) -> Iterator[tuple[Facts, list[Picture]]]:
        for facts, pictures in super().render(*args):
            yield dataclasses.replace(facts, device="another kind"), pictures


def test_a_worker_that_wakes_after_its_lease_leaves_what_the_next_one_stored(
    ledger: Ledger, store: MemoryStore, tools: Tools, claim: Claim
) -> None:
    add_job(ledger, store)
    slept = claim()
    lapsed = Failure(reason=Reason.LAPSED, detail="silent", worker_id=1, at=2.0)
    with ledger.write() as connection:
        tasks.lapse(connection, ref_of(slept), now=2.0, failure=lapsed)
    run_until_ended(ledger, dataclasses.replace(tools, renderer=_Elsewhere()), claim)
    rows, objects = all_rows(ledger), dict(store.objects)

    execute(slept, tools)

    assert (all_rows(ledger), store.objects) == (rows, objects)
    assert {row.sha256 for row in rows.values()} == {
        hashlib.sha256(data).hexdigest()
        for key, data in objects.items()
        if key.startswith("renders/")
    }


def test_what_a_worker_that_lost_its_lease_stored_last_is_replaced_by_the_next_one(
    ledger: Ledger, store: MemoryStore, tools: Tools, claim: Claim
) -> None:
    add_job(ledger, store)
    slept = claim()
    lapsed = Failure(reason=Reason.LAPSED, detail="silent", worker_id=1, at=2.0)
    with ledger.write() as connection:
        tasks.lapse(connection, ref_of(slept), now=2.0, failure=lapsed)
    execute(slept, tools)  # stores, and may not record

    run_until_ended(ledger, dataclasses.replace(tools, renderer=_Elsewhere()), claim)

    for row in all_rows(ledger).values():
        assert hashlib.sha256(store.get(str(row.object_key))).hexdigest() == row.sha256


def test_a_task_that_is_told_to_stop_keeps_its_batch_and_returns_the_rest(
    ledger: Ledger, store: MemoryStore, tools: Tools, claim: Claim, stop: Stop
) -> None:
    add_job(ledger, store, spec=make_spec(denoise=2))
    stop.drain(60, "test")

    execute(claim(), tools)

    assert sorted(all_rows(ledger)) == [0, 1]
    assert _claimable(ledger) == set(range(2, 8))


def test_a_task_out_of_grace_is_given_up_within_the_batch(
    ledger: Ledger, store: MemoryStore, tools: Tools, claim: Claim, stop: Stop
) -> None:
    add_job(ledger, store, spec=make_spec(denoise=2))
    stop.drain(0, "test")

    execute(claim(), tools)

    assert all_rows(ledger) == {}
    assert _claimable(ledger) == set(range(8))


def test_an_item_that_failed_often_enough_is_recorded_without_rendering(
    ledger: Ledger, store: MemoryStore, tools: Tools, claim: Claim
) -> None:
    add_job(ledger, store, [make_item(0, prompt="!crash")])
    task = claim()
    crashes = tuple(
        make_failure(reason=Reason.CRASHED, detail=f"SIGABRT {n}", worker_id=n) for n in range(3)
    )

    execute(msgspec.structs.replace(task, failures=crashes), tools)

    row = all_rows(ledger)[0]
    assert row.outcome == Outcome.FAILED
    assert row.reason == Reason.CRASHED
    assert "attempt 3 (worker 2): crashed: SIGABRT 2" in str(row.detail)


def test_speed_is_measured_for_the_next_claim(
    ledger: Ledger, store: MemoryStore, tools: Tools, claim: Claim
) -> None:
    from storage.db import profiles

    add_job(ledger, store)
    task = claim()

    execute(task, tools)

    with ledger.read() as connection:
        found = profiles.of_device(connection, "cpu/1")
    assert found[task.spec.profile_key].images == task.items


def test_the_heartbeat_knows_what_the_task_is_doing(
    ledger: Ledger, store: MemoryStore, tools: Tools, claim: Claim
) -> None:
    add_job(ledger, store, spec=make_spec(denoise=4, num_inference_steps=7))
    told = []

    class Listening(Heartbeat):
        def tell(self, progress: Any) -> None:
            told.append(progress)

    heartbeat = Listening(ledger, tools.worker_id, Stop())
    execute(claim(), dataclasses.replace(tools, heartbeat=heartbeat))

    assert [(p.phase, p.batch, p.batches, p.step, p.steps) for p in told] == [
        ("denoise", 1, 2, 7, 7),
        ("denoise", 2, 2, 7, 7),
    ]
    assert told[0].job == "job"


class _Stepping(FakeRenderer):
    """Runs out of memory at the claim's rung, and goes on at a lesser one, or cannot."""

    def __init__(self, *, goes_on: bool, room: int = 8 * GIB) -> None:
        super().__init__()
        self._goes_on, self._room = goes_on, room

    def render(
        self, spec: GroupSpec, rung: ModeNeed, batches: Sequence[Batch], watch: Watch
    ) -> Iterator[tuple[Facts, list[Picture]]]:
        watch.ran_out(msgspec.structs.replace(rung, memory_bytes=self._room))
        if not self._goes_on:
            raise OutOfMemory("nothing is left to try")
        phases = {"load": 30.0, "encode": 1.0, "denoise": 6.0, "decode": 1.0}
        for facts, pictures in super().render(spec, rung, batches, watch):
            yield (
                dataclasses.replace(
                    facts,
                    mode=Mode.CPU_PHASED,
                    batch=BatchShape(encode=8, denoise=2, decode=1),
                    steps_down=("mode cpu-phased", "batch 2", "tiled"),
                    peak_bytes=7000,
                    image_seconds=1.0,
                    phase_seconds=phases,
                ),
                pictures,
            )


def test_a_task_too_large_for_the_device_is_handed_back_and_blames_no_item(
    ledger: Ledger, store: MemoryStore, tools: Tools, claim: Claim
) -> None:
    add_job(ledger, store, spec=make_spec(denoise=8))
    task = claim()

    execute(task, _with_renderer(tools, _Stepping(goes_on=False)))

    assert _claimable(ledger) == set(range(8))
    with ledger.read() as connection:
        kept = connection.execute(sa.select(returned.c.failures)).scalars().all()
        seen = profiles.rungs_of(connection, tools.device_kind)
    assert not any(decode_failures(text) for text in kept)
    assert seen == {task.spec.profile_key: (Seen(mode=task.mode, failed_bytes=8 * GIB),)}


def test_what_ran_out_of_host_memory_is_not_claimed_for_the_same_again(
    ledger: Ledger, store: MemoryStore, tools: Tools, claim: Claim
) -> None:
    add_job(ledger, store, spec=make_spec(denoise=8))
    task = claim()

    execute(task, _with_renderer(tools, _Stepping(goes_on=False, room=1)))

    with ledger.read() as connection:
        (seen,) = profiles.rungs_of(connection, tools.device_kind)[task.spec.profile_key]
    assert task.mode.on_cpu
    assert seen.failed_bytes > task.memory_bytes * 1.2


def test_steps_down_the_ladder_are_recorded_on_images_and_in_the_profile(
    ledger: Ledger, store: MemoryStore, tools: Tools, claim: Claim
) -> None:
    add_job(ledger, store, spec=make_spec(denoise=8))
    task = claim()

    execute(task, _with_renderer(tools, _Stepping(goes_on=True)))

    for row in all_rows(ledger).values():
        with Image.open(io.BytesIO(store.objects[str(row.object_key)])) as picture:
            record = json.loads(picture.info["rendermill"])["rendering"]
        assert record["mode"] == "cpu-phased"
        assert record["batch"] == 2
        assert "batch 2" in record["steps_down"]
    with ledger.read() as connection:
        seen = profiles.rungs_of(connection, tools.device_kind)[task.spec.profile_key]
        speed = profiles.of_device(connection, tools.device_kind)[task.spec.profile_key]
        loads = profiles.loads_of(connection, tools.device_kind)
    assert set(seen) == {
        Seen(mode=task.mode, failed_bytes=8 * GIB),
        Seen(mode=Mode.CPU_PHASED, batch=2, tiled=True, peak_bytes=7000),
    }
    assert speed.seconds_per_image == 1.0
    assert speed.phase_seconds == {"encode": 0.125, "denoise": 0.75, "decode": 0.125}
    assert loads == {task.spec.model: 30.0}


class LoadingRenderer(FakeRenderer):
    """Takes its time to load before the first picture."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def render(
        self, spec: GroupSpec, rung: ModeNeed, batches: Sequence[Batch], watch: Watch
    ) -> Iterator[tuple[Facts, list[Picture]]]:
        watch.tell("load", 1, 0)
        self._clock.advance(25)
        for facts, pictures in super().render(spec, rung, batches, watch):
            self._clock.advance(2)
            yield facts, pictures


def test_loading_is_measured_apart_from_rendering(
    ledger: Ledger,
    store: MemoryStore,
    tools: Tools,
    claim: Claim,
) -> None:
    clock = FakeClock()
    job = add_job(ledger, store)
    task = claim()

    execute(task, dataclasses.replace(tools, renderer=LoadingRenderer(clock)), clock=clock)

    with ledger.read() as connection:
        loads = profiles.loads_of(connection, tools.device_kind)
        speeds = profiles.of_device(connection, tools.device_kind)
    assert loads == {task.spec.model: 25.0}
    (speed,) = speeds.values()
    assert speed.seconds_per_image * job.item_count == pytest.approx(
        2.0 * -(-job.item_count // task.spec.batch.denoise)
    )
