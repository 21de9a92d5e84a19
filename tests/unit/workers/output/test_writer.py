from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from storage.contract.capability import Mode
from storage.contract.claims import ClaimedTask
from storage.contract.errors import LeaseLost, StoreFull
from storage.contract.keys import image_key, thumbnail_key
from storage.contract.outcomes import Outcome, Reason
from storage.db.images import ImageRow
from storage.objects.memory import MemoryStore
from storage.testing.factories import make_item, make_spec
from workers.engine.ports import Facts, Picture
from workers.output import writer as writer_module
from workers.output.finish import Destination
from workers.output.writer import Writer

FACTS = Facts(dtype="float32", device="cpu/1", weights="w", versions={})
TASK = ClaimedTask(
    task_id=1,
    lease=1,
    job_id=1,
    job_name="job",
    group_id=1,
    group_first_item=0,
    first_item=0,
    stop_item=100,
    spec=make_spec(),
    mode=Mode.CPU,
    lease_seconds=60.0,
)


class Recorded:
    """Collects commits, and can refuse them."""

    def __init__(self, error: Exception | None = None) -> None:
        self.commits: list[list[int]] = []
        self.rows: list[ImageRow] = []
        self.error = error
        self.happened = threading.Event()

    def __call__(self, rows: Sequence[ImageRow]) -> None:
        self.happened.set()
        if self.error:
            raise self.error
        self.commits.append([row.item for row in rows])
        self.rows += rows


def still_held() -> None:
    """The lease holds."""


def make_writer(
    store: Any,
    commit: Callable[[Sequence[ImageRow]], None],
    confirm: Callable[[], None] = still_held,
) -> Writer:
    to = Destination(store=store, task=TASK, worker_id=1, now=lambda: 1.0, confirm=confirm)
    return Writer(to, commit)


def batch(*numbers: int, **picture: Any) -> tuple[list[Any], list[Picture]]:
    pixels = {"pixels": np.eye(8, dtype=np.uint8)[..., None].repeat(3, 2)}
    pictures = [Picture(item=n, **(picture or pixels)) for n in numbers]
    return [make_item(n) for n in numbers], pictures


def test_objects_are_stored_before_their_rows_are_committed(store: MemoryStore) -> None:
    seen: list[bool] = []
    commit = Recorded()

    def check(rows: Sequence[ImageRow]) -> None:
        seen.extend(row.object_key in store.objects for row in rows)
        commit(rows)

    writer = make_writer(store, check)
    for start in range(0, 20, 4):
        writer.put(*batch(*range(start, start + 4)), FACTS, 0.1)
    writer.close()

    assert seen == [True] * 20
    assert sorted(row.item for row in commit.rows) == list(range(20))


def test_a_finished_batch_is_committed_though_the_next_takes_long(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "COMMIT_SECONDS", 0.01)
    commit = Recorded()
    writer = make_writer(store, commit)

    writer.put(*batch(0, 1), FACTS, 0.1)

    assert commit.happened.wait(30)
    writer.close()
    assert commit.commits == [[0, 1]]


def test_a_picture_without_pixels_becomes_a_failed_row(store: MemoryStore) -> None:
    commit = Recorded()
    writer = make_writer(store, commit)

    writer.put(*batch(3, fault=Reason.NAN, detail="not finite"), FACTS, 0.1)
    writer.close()

    (row,) = commit.rows
    assert (row.outcome, row.reason, row.detail) == (Outcome.FAILED, Reason.NAN, "not finite")
    assert store.objects == {}


def test_a_picture_that_cannot_be_encoded_fails_alone(store: MemoryStore) -> None:
    commit = Recorded()
    writer = make_writer(store, commit)
    items, pictures = batch(0, 1, 2)
    items[1] = make_item(1, prompt="\ud800")

    writer.put(items, pictures, FACTS, 0.1)
    writer.close()

    assert [row.outcome for row in commit.rows] == ["rendered", "failed", "rendered"]
    assert "UnicodeEncodeError" in str(commit.rows[1].detail)


def test_a_full_store_is_raised_and_what_was_stored_is_committed() -> None:
    class FullAfterTwo(MemoryStore):
        def put(self, key: str, data: bytes, **how: bool) -> None:
            if int(key.rpartition("/")[2].partition(".")[0]) >= 2:
                raise StoreFull
            super().put(key, data, **how)

    commit = Recorded()
    writer = make_writer(FullAfterTwo(), commit)
    writer.put(*batch(0, 1), FACTS, 0.1)
    writer.put(*batch(2, 3), FACTS, 0.1)

    with pytest.raises(StoreFull):
        writer.close()
    assert commit.commits == [[0, 1]]


def test_a_lost_lease_is_raised_by_the_next_call(store: MemoryStore) -> None:
    writer = make_writer(store, Recorded(LeaseLost()))
    writer.put(*batch(0), FACTS, 0.1)

    with pytest.raises(LeaseLost):
        writer.close()


def test_a_picture_of_an_earlier_attempt_is_replaced_while_the_lease_holds(
    store: MemoryStore,
) -> None:
    key = image_key(TASK.job_name, 0)
    store.put(key, b"of an attempt that was not recorded")
    commit = Recorded()
    writer = make_writer(store, commit)

    writer.put(*batch(0), FACTS, 0.1)
    writer.close()

    (row,) = commit.rows
    assert hashlib.sha256(store.get(key)).hexdigest() == row.sha256


def test_who_lost_the_lease_leaves_the_next_holders_picture_alone(store: MemoryStore) -> None:
    def lost() -> None:
        raise LeaseLost

    picture, thumbnail = image_key(TASK.job_name, 0), thumbnail_key(TASK.job_name, 0)
    store.put(picture, b"the next holder's")
    store.put(thumbnail, b"the next holder's")
    commit = Recorded()
    writer = make_writer(store, commit, lost)

    writer.put(*batch(0), FACTS, 0.1)
    with pytest.raises(LeaseLost):
        writer.close()

    assert store.objects == {picture: b"the next holder's", thumbnail: b"the next holder's"}
    assert commit.commits == []


def test_the_lease_is_not_asked_for_where_there_is_no_picture_yet(store: MemoryStore) -> None:
    asked: list[None] = []
    writer = make_writer(store, Recorded(), lambda: asked.append(None))

    writer.put(*batch(0, 1), FACTS, 0.1)
    writer.close()

    assert asked == []


@pytest.mark.parametrize(("room", "waiting"), [(0, 2), (5 * 8 * 8 * 3, 5)])
def test_the_renderer_waits_for_a_slow_store(
    monkeypatch: pytest.MonkeyPatch, room: int, waiting: int
) -> None:
    """At two batches, or at more of small pictures."""
    monkeypatch.setattr(writer_module, "WAITING_BYTES", room)
    gate = threading.Event()

    class Slow(MemoryStore):
        def put(self, key: str, data: bytes, **how: bool) -> None:
            gate.wait()
            super().put(key, data, **how)

    commit = Recorded()
    writer = make_writer(Slow(), commit)
    puts = threading.Semaphore(0)

    def render() -> None:
        for number in range(10):
            writer.put(*batch(number), FACTS, 0.1)
            puts.release()

    renderer = threading.Thread(target=render)
    renderer.start()
    let_on = [puts.acquire(timeout=30) for _ in range(waiting)]
    let_on += [puts.acquire(timeout=0.3) for _ in range(2)]  # one is in the recorder's hands
    gate.set()
    renderer.join()
    writer.close()

    assert let_on[:waiting] == [True] * waiting
    assert not let_on[-1]
    assert len(commit.rows) == 10


def test_abandoning_ends_the_threads(store: MemoryStore) -> None:
    before = set(threading.enumerate())
    writer = make_writer(store, Recorded())
    writer.put(*batch(0), FACTS, 0.1)

    writer.abandon()

    assert set(threading.enumerate()) <= before
