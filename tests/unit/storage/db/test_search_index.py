"""The index says what the images say, however it was interrupted, repeated or overtaken."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from storage.contract.claims import ClaimedTask
from storage.contract.errors import NotFoundError
from storage.contract.search import Everything, Is, Kind, Tree
from storage.db import images, saved, search, search_index, search_notes
from storage.db.engine import Ledger
from storage.db.images import ImageRow
from storage.db.search import Sort
from storage.db.search_index import Indexer, forget_all
from storage.db.search_plan import as_like, words_within
from storage.db.search_terms import as_text, as_vector, bucket_of, words_of
from storage.db.shelves import drop_rows
from storage.db.steering import remove_rows
from storage.db.tables import search_words
from storage.testing.factories import add_groups, cut_task, make_image_row

ITEMS = 30


@pytest.fixture
def task(ledger: Ledger, worker_id: int) -> ClaimedTask:
    """A task of thirty items."""
    assert worker_id == 1
    group_id = add_groups(ledger, (ITEMS, 1), name="job").id
    found = cut_task(ledger, 1, items=ITEMS, group_id=group_id)
    assert found
    return found


def record(ledger: Ledger, task: ClaimedTask, *items: int, **overrides: Any) -> list[ImageRow]:
    rows = [
        make_image_row(task, item, **({"prompt": f"a fox {item}", "created_at": 5.0} | overrides))
        for item in items
    ]
    with ledger.write() as connection:
        images.insert(connection, rows)
    return rows


def found(ledger: Ledger, tree: Tree | None = None) -> list[int]:
    """The items that are found, in the catalog's order."""
    with ledger.read() as connection:
        hits = search.page(connection, tree or Everything(), sort=Sort("created", False), limit=999)
    return [hit.item for hit in hits]


def counts(ledger: Ledger) -> dict[tuple[str, str], int]:
    with ledger.read() as connection:
        rows = connection.execute(sa.select(search_words).where(search_words.c.images != 0))
        return {(row.field, row.value): row.images for row in rows}


def lag(ledger: Ledger) -> search_notes.Lag:
    with ledger.read() as connection:
        return search_notes.lag(connection)


def test_images_are_found_once_they_are_indexed(ledger: Ledger, task: ClaimedTask) -> None:
    record(ledger, task, 3, 1, 2)
    assert found(ledger) == []
    assert lag(ledger).items == 3
    assert Indexer(ledger).catch_up(60) == 3
    assert found(ledger, Is("prompt", "FOX")) == [1, 2, 3]
    assert found(ledger, Is("job", "job")) == [1, 2, 3]
    assert lag(ledger) == search_notes.Lag(0, 0)
    assert Indexer(ledger).catch_up(60) == 0


def test_a_range_that_is_noted_twice_is_indexed_once(ledger: Ledger, task: ClaimedTask) -> None:
    record(ledger, task, 1, 2)
    Indexer(ledger).catch_up(60)
    before = counts(ledger)
    with ledger.write() as connection:
        search_notes.note(connection, task.job_id, 0, ITEMS)
        search_notes.note(connection, 99, 0, 5)
    Indexer(ledger).catch_up(60)
    assert found(ledger) == [1, 2]
    assert counts(ledger) == before


def test_what_is_taken_back_is_found_no_more_and_what_comes_instead_is(
    ledger: Ledger, task: ClaimedTask
) -> None:
    rows = record(ledger, task, 1, 2, 3, prompt="a cat")
    Indexer(ledger).catch_up(60)
    with ledger.write() as connection:
        remove_rows(connection, task.job_id, [rows[1]])
    Indexer(ledger).catch_up(60)
    assert found(ledger, Is("prompt", "cat")) == [1, 3]
    record(ledger, task, 2, prompt="a dog", created_at=9.0)
    Indexer(ledger).catch_up(60)
    assert found(ledger) == [1, 3, 2]
    assert found(ledger, Is("prompt", "dog")) == [2]
    assert counts(ledger)["prompt", "cat"] == 2
    assert counts(ledger)["*", "*"] == 3


def test_an_image_that_was_replaced_before_the_index_saw_it_go_is_indexed_anew(
    ledger: Ledger, task: ClaimedTask
) -> None:
    rows = record(ledger, task, 1, prompt="a cat")
    Indexer(ledger).catch_up(60)
    with ledger.write() as connection:
        remove_rows(connection, task.job_id, rows)
    record(ledger, task, 1, prompt="a dog", created_at=9.0)
    Indexer(ledger).catch_up(60)
    assert found(ledger, Is("prompt", "cat")) == []
    assert found(ledger, Is("prompt", "dog")) == [1]


def test_the_images_of_a_job_go_with_it(ledger: Ledger, task: ClaimedTask) -> None:
    record(ledger, task, 1, 2)
    Indexer(ledger).catch_up(60)
    with ledger.write() as connection:
        drop_rows(connection, task.job_id)
    Indexer(ledger).catch_up(60)
    assert found(ledger) == []
    assert counts(ledger) == {}


def test_a_large_range_is_taken_in_steps(
    ledger: Ledger, task: ClaimedTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_index, "ITEMS_PER_STEP", 4)
    record(ledger, task, *range(0, ITEMS, 2))
    indexer = Indexer(ledger)
    with ledger.write() as connection:
        assert indexer.step(connection) == 4
    assert found(ledger) == [0, 2, 4, 6]
    assert lag(ledger).items == ITEMS - 9
    indexer.catch_up(60)
    assert found(ledger) == list(range(0, ITEMS, 2))


def test_a_step_that_is_undone_leaves_no_wrong_numbers_behind(
    ledger: Ledger, task: ClaimedTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(ledger, task, 1)
    indexer = Indexer(ledger)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(search_index, "count", die)
        with pytest.raises(KeyboardInterrupt):
            indexer.catch_up(60)
    assert found(ledger) == []
    other = Indexer(ledger)  # takes the numbers that were given and undone
    record(ledger, task, 2, prompt="something else entirely")
    other.catch_up(60)
    indexer.catch_up(60)
    record(ledger, task, 3)
    indexer.catch_up(60)
    assert found(ledger, Is("prompt", "fox")) == [1, 3]
    assert found(ledger, Is("prompt", "entirely")) == [2]


def test_all_is_indexed_again_with_the_fields_of_today(ledger: Ledger, task: ClaimedTask) -> None:
    record(ledger, task, 1, 2, 3)
    indexer = Indexer(ledger)
    indexer.catch_up(60)
    before = counts(ledger)
    with ledger.write() as connection:
        forget_all(connection)
    assert found(ledger) == []
    indexer.catch_up(60)
    assert found(ledger, Is("prompt", "fox")) == [1, 2, 3]
    assert counts(ledger) == before


def test_odd_texts_are_indexed_and_never_run(ledger: Ledger, task: ClaimedTask) -> None:
    odd = "'; DROP TABLE images; -- 'x':1 & | ! <-> \\ \" NEAR(a b) " + "l" * 500
    record(ledger, task, 1, prompt=odd, tags='{"a\'b \\" &":"%_\\\\"}', model="m' | 'n")
    Indexer(ledger).catch_up(60)
    assert found(ledger, Is("prompt", "drop table")) == [1]
    assert found(ledger, Is("tag.a'b \" &", "%_\\")) == [1]
    assert found(ledger, Is("model", "M' | 'N")) == [1]
    assert found(ledger, Is("model", "n")) == []


def test_a_prompt_of_many_words_is_indexed(ledger: Ledger, task: ClaimedTask) -> None:
    record(ledger, task, 1, prompt=" ".join(["fox"] * 3000 + [f"w{n}" for n in range(1500)]))
    Indexer(ledger).catch_up(60)
    assert found(ledger, Is("prompt", "w1499")) == [1]
    assert found(ledger, Is("prompt", "fox fox")) == [1]


def test_queries_are_kept_replaced_listed_and_deleted(ledger: Ledger) -> None:
    with ledger.write() as connection:
        saved.save(connection, "b", "fox", now=1.0)
        saved.save(connection, "a", "cat", now=2.0)
        saved.save(connection, "b", "dog", now=3.0)
    with ledger.read() as connection:
        assert [(one.name, one.query) for one in saved.every(connection)] == [
            ("a", "cat"),
            ("b", "dog"),
        ]
        assert saved.find(connection, "nothing") is None
    with ledger.write() as connection:
        saved.delete(connection, "b")
        with pytest.raises(NotFoundError, match="no query is saved as b"):
            saved.delete(connection, "b")


# --- Words and patterns -------------------------------------------------------------------------


def test_words_are_runs_of_letters_whatever_the_case() -> None:
    assert words_of("A red FOX's Straße, 3.5 a_b 星空") == [
        *("a", "red", "fox", "s", "strasse", "3", "5", "a_b", "星空")
    ]


@given(st.text(max_size=200))
def test_no_word_could_be_more_than_a_word(text: str) -> None:
    for word in words_of(text):
        assert 0 < len(word) <= 100
        assert not set(word) & set(" '\"&|!()<>:*\\\x00")


@given(st.sampled_from([Kind.SPREAD, Kind.TIME]), st.floats(0, 2**62), st.floats(0, 2**62))
def test_larger_numbers_lie_in_no_smaller_bucket(kind: Kind, one: float, other: float) -> None:
    low, high = sorted([one, other])
    assert bucket_of(kind, low) <= bucket_of(kind, high)


@pytest.mark.parametrize(
    ("like", "words"),
    [
        ("%fox%", ["*fox*"]),
        ("fox%", ["fox*"]),
        ("%red fo%", ["*red", "fo*"]),
        ("% red %", ["red"]),
        ("a%b", ["a*", "*b"]),
        ("%f_x%", []),
        ("%", []),
        (r"%100\% wool%", ["*100", "wool*"]),
    ],
)
def test_a_pattern_names_the_words_a_prompt_must_have(like: str, words: list[str]) -> None:
    assert list(words_within(like)) == words


def test_signs_of_sql_in_a_pattern_stand_for_themselves() -> None:
    assert as_like(r"a*b?c%d_e\f") == r"a%b_c\%d\_e\\f"


def test_terms_are_written_as_each_database_reads_them() -> None:
    assert as_vector(1 << 17, [5, 6, 5], [9]) == "5:1,3 6:2 9 a8 b1 c0"
    assert as_text([5, 6, 5], [9]) == " 5 6 5 9 "
