"""Marking, hiding, purging and retention, by query."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from scheduler.service import finding, keeping
from scheduler.service.finding import Ask
from storage.contract.claims import ClaimedTask
from storage.contract.errors import InputError, NotFoundError, QueryError, StoreUnavailable
from storage.db import images, marks, purging, retention, tasks
from storage.db.engine import Ledger, open_sqlite
from storage.db.tables import images as table
from storage.objects.memory import MemoryStore
from storage.testing.factories import add_groups, add_worker, cut_task, make_image_row, ref_of

DAY = 86_400.0


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(
    request: pytest.FixtureRequest, tmp_path: Path, migrated_catalog: Path
) -> Iterator[Ledger]:
    """An empty ledger, on each kind of database in turn."""
    if request.param == "postgresql":
        yield request.getfixturevalue("postgres_ledger")
        return
    opened = open_sqlite(Path(shutil.copy(migrated_catalog, tmp_path / "catalog.db")))
    yield opened
    opened.close()


@pytest.fixture
def task(ledger: Ledger, store: MemoryStore) -> ClaimedTask:
    """A finished task of eight images: the item with the number 0 is eight days old, and so on."""
    group_id = add_groups(ledger, (8, 1), name="job").id
    task = cut_task(ledger, add_worker(ledger), items=8, group_id=group_id)
    assert task
    now = ledger.now()
    rows = [
        make_image_row(task, n, created_at=now - (8 - n) * DAY + 60.0, bytes=100) for n in range(8)
    ]
    with ledger.write() as connection:
        tasks.commit(connection, ref_of(task), rows, expires_at=2e9, now=now)
    for row in rows:
        assert row.object_key
        store.put(row.object_key, b"picture")
    keeping.index_all(ledger)
    return task


def found(ledger: Ledger, query: str) -> list[int]:
    keeping.index_all(ledger)
    page = finding.find(ledger, Ask(query=query), sort=finding.sort_of("created"), limit=50)
    return [row.item for _, row in page.images]


def delete(ledger: Ledger, query: str, ago: float = 0.0) -> int:
    keys = keeping.select(ledger, query, home=True)
    now = ledger.now() - ago
    return keeping.apply(ledger, keys, lambda c, k: marks.hide(c, k, now=now))


def test_images_are_chosen_by_query_or_id(ledger: Ledger, task: ClaimedTask) -> None:
    assert keeping.select(ledger, "seed:>=6", home=True) == [(task.job_id, 6), (task.job_id, 7)]
    assert keeping.select(ledger, "job/3", home=True) == [(task.job_id, 3)]
    assert keeping.select(ledger, "nowhere", home=True) == []
    with pytest.raises(InputError, match="needs a query"):
        keeping.select(ledger, " ", home=True)
    with pytest.raises(NotFoundError, match="no image job/99"):
        keeping.select(ledger, "job/99", home=True)


def test_what_is_deleted_is_found_only_if_asked_for(ledger: Ledger, task: ClaimedTask) -> None:
    assert found(ledger, "hidden:true") == []
    assert delete(ledger, "seed:[2 TO 4]") == 3
    assert found(ledger, "prompt:prompt") == [0, 1, 5, 6, 7]
    assert found(ledger, "hidden:true") == [2, 3, 4]
    assert found(ledger, "hidden:true OR seed:1") == [1, 2, 3, 4]
    assert finding.count(ledger, Ask(query="prompt:prompt"), exact=True).images == 5


def test_what_is_deleted_can_be_had_back(ledger: Ledger, task: ClaimedTask) -> None:
    delete(ledger, "seed:[2 TO 4]")
    keys = keeping.select(ledger, "seed:<4", home=True, hidden=True)
    assert [item for _, item in keys] == [2, 3]
    assert keeping.apply(ledger, keys, lambda c, k: marks.unhide(c, k, now=9.0)) == 2
    assert found(ledger, "prompt:prompt") == [0, 1, 2, 3, 5, 6, 7]


def test_a_purge_removes_what_was_hidden_long_enough_ago(
    ledger: Ledger, store: MemoryStore, task: ClaimedTask
) -> None:
    delete(ledger, "seed:1", ago=8 * DAY)
    delete(ledger, "seed:2")
    assert keeping.purge(ledger, store) == keeping.Purged(images=1, objects=1)
    assert store.size("renders/job/1.png") is None
    assert store.size("renders/job/2.png")
    assert found(ledger, "hidden:true") == [2]
    assert keeping.purge(ledger, store, older_than=0.0).images == 1
    assert found(ledger, "*") == [0, 3, 4, 5, 6, 7]
    assert len(store.objects) == 6 + sum(not key.startswith("renders") for key in store.objects)


def _die_before(step: str) -> Callable[..., object]:
    def die(*_: object, **__: object) -> object:
        raise KeyboardInterrupt(step)

    return die


@pytest.mark.parametrize("step", ["objects_of", "remove"])
def test_a_purge_killed_at_any_step_is_finished_by_the_next(
    ledger: Ledger,
    store: MemoryStore,
    task: ClaimedTask,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    delete(ledger, "seed:[1 TO 3]", ago=8 * DAY)
    with monkeypatch.context() as patched:
        patched.setattr(purging, step, _die_before(step))
        with pytest.raises(KeyboardInterrupt):
            keeping.purge(ledger, store)
    _nothing_unknown_is_missing(ledger, store)
    assert keeping.select(ledger, "seed:2", home=True, hidden=True)
    assert keeping.purge(ledger, store, older_than=1e9).images == 3
    _nothing_unknown_is_missing(ledger, store)
    assert found(ledger, "*") == [0, 4, 5, 6, 7]
    assert [key for key in store.objects if key.startswith("renders")] == [
        f"renders/job/{item}.png" for item in (0, 4, 5, 6, 7)
    ]


class _Dying(MemoryStore):
    """Deletes one object of those it is asked to, and then is no more."""

    def delete(self, keys: Iterable[str]) -> None:
        super().delete(list(keys)[:1])
        raise StoreUnavailable("the power went")


def test_a_purge_that_loses_its_store_half_way_is_finished_by_the_next(
    ledger: Ledger, store: MemoryStore, task: ClaimedTask
) -> None:
    delete(ledger, "seed:[1 TO 3]", ago=8 * DAY)
    dying = _Dying()
    dying.objects = store.objects
    with pytest.raises(StoreUnavailable):
        keeping.purge(ledger, dying)
    assert store.size("renders/job/1.png") is None
    assert store.size("renders/job/2.png")
    _nothing_unknown_is_missing(ledger, store)
    assert keeping.purge(ledger, store).images == 3
    _nothing_unknown_is_missing(ledger, store)


def _nothing_unknown_is_missing(ledger: Ledger, store: MemoryStore) -> None:
    """Every image whose object is gone says that it is being purged."""
    with ledger.read() as connection:
        rows = connection.execute(sa.select(table.c.object_key, table.c.hidden_at)).all()
    for key, hidden_at in rows:
        assert store.size(key) is not None or hidden_at == purging.PURGING


def test_a_rule_hides_images_that_are_too_old(ledger: Ledger, task: ClaimedTask) -> None:
    keeping.add_rule(ledger, "seed:<7", keep_seconds=5 * DAY, max_bytes=None)
    (due,) = keeping.foresee(ledger)
    assert (due.images, due.bytes) == (3, 300)
    assert found(ledger, "*") == list(range(8))  # to foresee is not to do
    assert keeping.enforce(ledger) == 3
    assert found(ledger, "*") == [3, 4, 5, 6, 7]
    assert keeping.enforce(ledger) == 0


def test_a_rule_keeps_the_newest_up_to_its_bytes(ledger: Ledger, task: ClaimedTask) -> None:
    keeping.add_rule(ledger, "job:job", keep_seconds=None, max_bytes=350)
    assert [(one.images, one.bytes) for one in keeping.foresee(ledger)] == [(5, 500)]
    assert keeping.enforce(ledger) == 5
    assert found(ledger, "*") == [5, 6, 7]


def test_links_take_no_bytes_of_a_quota(ledger: Ledger, task: ClaimedTask) -> None:
    with ledger.write() as connection:
        connection.execute(
            sa.update(table).where(table.c.item > 1).values(linked_job=task.job_id, linked_item=0)
        )
    keeping.add_rule(ledger, "job:job", keep_seconds=None, max_bytes=200)
    assert keeping.foresee(ledger)[0].images == 0


def test_favourites_can_be_kept_out_of_a_rule(ledger: Ledger, task: ClaimedTask) -> None:
    keys = keeping.select(ledger, "seed:1", home=True)
    keeping.apply(ledger, keys, lambda c, k: marks.rate(c, k, 5, now=ledger.now()))
    keeping.add_rule(ledger, "job:job AND NOT rating:>=4", keep_seconds=5 * DAY, max_bytes=None)
    keeping.index_all(ledger)
    keeping.enforce(ledger)
    assert found(ledger, "*") == [1, 3, 4, 5, 6, 7]


def test_pages_of_a_rule_are_all_looked_at(
    ledger: Ledger, task: ClaimedTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "AT_ONCE", 2)
    keeping.add_rule(ledger, "*", keep_seconds=3 * DAY, max_bytes=None)
    assert keeping.enforce(ledger) == 5
    assert keeping.enforce(ledger, seconds=0.0) == 0


def test_a_rule_with_a_bad_query_is_refused(ledger: Ledger) -> None:
    with pytest.raises(QueryError, match="no field"):
        keeping.add_rule(ledger, "sed:7", keep_seconds=1.0, max_bytes=None)
    with ledger.read() as connection:
        assert retention.every(connection) == []


def test_rules_are_listed_and_removed(ledger: Ledger) -> None:
    number = keeping.add_rule(ledger, "seed:7", keep_seconds=1.0, max_bytes=5)
    with ledger.write() as connection:
        assert [(one.id, one.query) for one in retention.every(connection)] == [(number, "seed:7")]
        retention.delete(connection, number)
        with pytest.raises(NotFoundError, match=f"no retention rule {number}"):
            retention.delete(connection, number)


def test_a_whole_collection_goes_at_once(ledger: Ledger, task: ClaimedTask) -> None:
    keys = keeping.select(ledger, "seed:<3", home=True)
    keeping.apply(ledger, keys, lambda c, k: marks.collect(c, k, "best", now=ledger.now()))
    assert found(ledger, "collection:best") == [0, 1, 2]
    assert keeping.empty_collection(ledger, "best") == 3
    assert found(ledger, "collection:best") == []
    with pytest.raises(NotFoundError, match="no collection 'best'"):
        keeping.empty_collection(ledger, "best")
    with ledger.read() as connection:
        assert images.get(connection, "job", 0).collections is None


@pytest.mark.parametrize("rating", [-1, 6, 100])
def test_ratings_are_from_one_to_five(rating: int) -> None:
    with pytest.raises(InputError, match="from 1 to 5"):
        keeping.checked_rating(rating)
    assert (keeping.checked_rating(0), keeping.checked_rating(5)) == (None, 5)


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 101])
def test_names_are_short_and_printable(name: str) -> None:
    with pytest.raises(InputError, match="cannot be the name of a tag"):
        keeping.checked_name(name, "tag")
