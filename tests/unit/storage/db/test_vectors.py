"""Vectors are work that is claimed, fenced and never lost; the nearest are found exactly."""

from __future__ import annotations

import numpy as np
import pytest
import sqlalchemy as sa

from storage.contract.errors import LeaseLost
from storage.contract.search import Between, Everything, Tree
from storage.db import images, tables, vectors
from storage.db.engine import Ledger
from storage.db.search_index import Indexer, forget_all
from storage.db.search_keys import prompt_key
from storage.db.search_near import Near
from storage.db.search_sql import bounded
from storage.db.vector_search import nearest
from storage.db.vectors import Batch, Of, Status
from storage.testing.factories import add_groups, add_worker, cut_task, make_image_row

PROMPTS = [f"prompt {number}" for number in range(40)]
ITEMS = 120
DIMS = 8


def vector_of(prompt: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    made = np.random.default_rng(prompt_key(prompt) & 0xFFFF).normal(size=DIMS)
    return (made / np.linalg.norm(made)).astype(np.float32)


@pytest.fixture
def prompts(ledger: Ledger) -> list[str]:
    """The prompts of a job's items: each of forty three times."""
    made = [PROMPTS[item % len(PROMPTS)] for item in range(ITEMS)]
    add_groups(ledger, (ITEMS, 1))
    task = cut_task(ledger, add_worker(ledger), items=ITEMS)
    assert task is not None
    with ledger.write() as connection:
        images.insert(
            connection,
            [
                make_image_row(task, item, prompt=prompt, width=64 if item < 10 else 512)
                for item, prompt in enumerate(made)
            ],
        )
    Indexer(ledger).catch_up(60)
    with ledger.write() as connection:
        vectors.enable(connection, Of.PROMPT, "a", now=1.0)
    return made


def note_all(ledger: Ledger) -> int:
    looked = 0
    with ledger.write() as connection:
        while found := vectors.note(connection, Of.PROMPT):
            looked += found
    return looked


def claim(ledger: Ledger, *, lease: int = 1, now: float = 10.0, most: int = 256) -> Batch | None:
    with ledger.write() as connection:
        return vectors.claim(connection, Of.PROMPT, lease=lease, most=most, now=now)


def commit(ledger: Ledger, batch: Batch, faults: dict[int, str] | None = None) -> None:
    made = {
        work.key: vector_of(work.image.prompt).astype("<f2").tobytes()
        for work in batch.works
        if work.key not in (faults or {})
    }
    with ledger.write() as connection:
        vectors.commit(connection, batch, made, faults or {})


def status(ledger: Ledger, now: float = 10.0) -> Status:
    with ledger.read() as connection:
        embedder = vectors.find(connection, Of.PROMPT)
        assert embedder is not None
        return vectors.status(connection, embedder, now=now)


def found(ledger: Ledger, prompt: str, tree: Tree | None = None, limit: int = 9) -> list[Near]:
    with ledger.read() as connection, bounded(connection):
        return nearest(connection, "prompt", vector_of(prompt), tree or Everything(), limit=limit)


def build(ledger: Ledger) -> None:
    note_all(ledger)
    while (batch := claim(ledger)) is not None:
        commit(ledger, batch)


def test_images_that_share_a_prompt_share_its_vector(ledger: Ledger, prompts: list[str]) -> None:
    assert status(ledger).unseen == ITEMS
    assert note_all(ledger) == ITEMS
    batch = claim(ledger)
    assert batch is not None
    assert sorted(work.image.prompt for work in batch.works) == sorted(PROMPTS)
    commit(ledger, batch)
    assert claim(ledger) is None
    told = status(ledger)
    assert (told.done, told.due, told.unseen, told.dims) == (len(PROMPTS), 0, 0, DIMS)


def test_two_claims_never_give_the_same_key(ledger: Ledger, prompts: list[str]) -> None:
    note_all(ledger)
    first, second = claim(ledger, lease=1, most=30), claim(ledger, lease=2, most=30)
    assert first is not None
    assert second is not None
    keys = [work.key for work in (*first.works, *second.works)]
    assert len(keys) == len(set(keys)) == len(PROMPTS)
    assert claim(ledger, lease=3) is None


def test_a_lapsed_lease_is_anybodys_and_its_old_holder_commits_nothing(
    ledger: Ledger, prompts: list[str]
) -> None:
    note_all(ledger)
    slow = claim(ledger, lease=1, now=10.0)
    assert slow is not None
    after = 11.0 + vectors.LEASE_SECONDS
    quick = claim(ledger, lease=2, now=after)
    assert quick is not None
    with pytest.raises(LeaseLost):
        commit(ledger, slow)
    assert status(ledger).done == 0
    commit(ledger, quick)
    assert status(ledger).done == len(quick.works)


def test_what_ends_every_worker_is_found_and_given_up_and_nothing_else_is(
    ledger: Ledger, prompts: list[str]
) -> None:
    note_all(ledger)
    now = 10.0
    culprit = prompt_key("prompt 13")
    for lease in range(200):
        now += 2 * vectors.LEASE_SECONDS
        batch = claim(ledger, lease=lease, now=now)
        if batch is None:
            break
        if culprit not in {work.key for work in batch.works} and batch.works:
            commit(ledger, batch)
    told = status(ledger)
    assert (told.done, told.due, told.faults) == (len(PROMPTS) - 1, 0, 1)
    with ledger.write() as connection:
        assert vectors.retry(connection, Of.PROMPT) == 1
    again = claim(ledger, now=now)
    assert again is not None
    assert [work.key for work in again.works] == [culprit]


def test_what_cannot_be_computed_is_recorded_and_the_rest_given_back(
    ledger: Ledger, prompts: list[str]
) -> None:
    note_all(ledger)
    batch = claim(ledger, most=2)
    assert batch is not None
    commit(ledger, batch, {batch.works[0].key: "no such file"})
    told = status(ledger)
    assert (told.done, told.faults, told.leased) == (1, 1, 0)
    other = claim(ledger, lease=5)
    assert other is not None
    with ledger.write() as connection:
        vectors.hand_back(connection, other)
    assert status(ledger).leased == 0


def test_another_model_begins_anew_and_the_same_does_not(
    ledger: Ledger, prompts: list[str]
) -> None:
    build(ledger)
    with ledger.write() as connection:
        vectors.enable(connection, Of.PROMPT, "a", now=2.0)
    assert status(ledger).done == len(PROMPTS)
    with ledger.write() as connection:
        vectors.enable(connection, Of.PROMPT, "b", now=2.0)
    assert (status(ledger).done, status(ledger).unseen) == (0, ITEMS)
    with ledger.write() as connection:
        vectors.disable(connection, Of.PROMPT)
        assert vectors.enabled(connection) == []


def test_an_index_made_anew_keeps_the_vectors(ledger: Ledger, prompts: list[str]) -> None:
    build(ledger)
    with ledger.write() as connection:
        forget_all(connection)
    Indexer(ledger).catch_up(60)
    assert note_all(ledger) == ITEMS
    assert (status(ledger).done, status(ledger).due) == (len(PROMPTS), 0)
    assert [one.item % 40 for one in found(ledger, "prompt 7", limit=3)] == [7, 7, 7]


def test_a_prompt_that_no_image_has_any_more_is_no_work(ledger: Ledger, prompts: list[str]) -> None:
    note_all(ledger)
    with ledger.write() as connection:
        forget_all(connection)
    batch = claim(ledger)
    assert batch is None or batch.works == ()
    assert status(ledger).due == 0


@pytest.mark.parametrize("few", [0, 10**9])
@pytest.mark.parametrize("page", [7, 8192])
def test_the_nearest_are_what_comparing_everything_gives(
    ledger: Ledger, prompts: list[str], monkeypatch: pytest.MonkeyPatch, few: int, page: int
) -> None:
    monkeypatch.setattr("storage.db.vector_search.FEW", few)
    monkeypatch.setattr("storage.db.vector_search.PAGE", page)
    build(ledger)
    wanted = vector_of("something else")
    for tree, items in ((Everything(), range(ITEMS)), (Between("width", 64, 64), range(10))):
        right = sorted(items, key=lambda item: (-float(vector_of(prompts[item]) @ wanted), -item))
        seen = found(ledger, "something else", tree, limit=7)
        assert [prompts[one.item] for one in seen] == [prompts[item] for item in right[:7]]
        assert [one.distance for one in seen] == pytest.approx(
            [1 - float(vector_of(prompts[item]) @ wanted) for item in right[:7]], abs=2e-3
        )


def test_a_million_images_of_a_prompt_cost_one_page(ledger: Ledger, prompts: list[str]) -> None:
    build(ledger)
    with ledger.read() as connection:
        count = sa.select(sa.func.count()).select_from(tables.vectors)
        assert connection.execute(count).scalar_one() == len(PROMPTS)
    assert [one.item for one in found(ledger, "prompt 3", limit=2)] == [83, 43]
