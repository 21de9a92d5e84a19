"""Image rows: recorded in bulk, found again page by page, without reading the whole catalog."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from storage.contract.claims import ClaimedTask
from storage.contract.errors import NotFoundError
from storage.contract.outcomes import Outcome, Reason
from storage.db import images
from storage.db.engine import Ledger
from storage.db.images import ImageFilter, ImageRow
from storage.testing.factories import add_groups, add_worker, cut_task, make_image_row

PlanOf = Callable[[Callable[[sa.Connection], Iterable[Any]]], list[str]]
Catalog = tuple[Ledger, list[ImageRow]]

WORDS = ("star", "Star", "100%", "a_b", "circle")
TAGS: tuple[dict[str, str], ...] = (
    {},
    {"set": "a"},
    {"set": "b", "by": "me"},
    {"set": "a", "by": "you", "set2": "a"},
)


def full_row(task: ClaimedTask, item: int, **overrides: Any) -> ImageRow:
    """A row without a single empty field."""
    values: dict[str, Any] = {
        "detail": "as it should be",
        "reason": "none",
        "revision": "f" * 40,
        "tags": '{"set":"a"}',
        "thumbnail_key": "thumbnails/1.webp",
        "sha256": "0" * 64,
        "render_key": "1" * 32,
        "rendering": "{}",
        "truncated_tokens": 3,
    }
    return make_image_row(task, item, **(values | overrides))


def claimed(ledger: Ledger, *, job: str = "job", items: int = 8) -> ClaimedTask:
    """All items of a new job, claimed by the worker with the id 1."""
    group_id = add_groups(ledger, (items, 1), name=job).id
    task = cut_task(ledger, 1, items=items, group_id=group_id)
    assert task
    return task


def insert(ledger: Ledger, rows: list[ImageRow]) -> None:
    with ledger.write() as connection:
        images.insert(connection, rows)


@pytest.fixture
def task(ledger: Ledger, worker_id: int) -> ClaimedTask:
    """A task of eight items."""
    assert worker_id == 1
    return claimed(ledger)


@pytest.fixture(scope="module")
def catalog(lasting_ledger: Ledger) -> Catalog:
    """Two jobs with forty images each, which differ in all that can be asked for."""
    add_worker(lasting_ledger)
    choose = random.Random(5).choice
    rows = [
        make_image_row(
            task,
            item,
            outcome=choose([Outcome.RENDERED, Outcome.FAILED]),
            prompt=f"a {choose(WORDS)} and a {choose(WORDS)}",
            seed=choose([1, 2, 3]),
            model=choose(["starter", "other"]),
            row=item // 4,
            tags=msgspec.json.encode(choose(TAGS)).decode(),
            truncated_tokens=choose([0, 0, 5]),
        )
        for task in (claimed(lasting_ledger, job=name, items=40) for name in ("one", "two"))
        for item in range(40)
    ]
    insert(lasting_ledger, random.Random(6).sample(rows, len(rows)))
    return lasting_ledger, rows


def meets(row: ImageRow, wanted: ImageFilter) -> bool:
    """What the filter says, in Python."""
    tags = msgspec.json.decode(row.tags, type=dict[str, str])
    return (
        all(
            asked is None or getattr(row, name) == asked
            for name in ("job_id", "outcome", "seed", "model", "row")
            for asked in [getattr(wanted, name)]
        )
        and all(tags.get(key) == value for key, value in wanted.tags)
        and (wanted.contains is None or wanted.contains.lower() in row.prompt.lower())
        and (not wanted.truncated or row.truncated_tokens > 0)
    )


filters = st.builds(
    ImageFilter,
    job_id=st.sampled_from([None, None, 1, 2, 3]),
    outcome=st.sampled_from([None, None, *Outcome]),
    tags=st.lists(
        st.sampled_from([("set", "a"), ("set", "b"), ("by", "me"), ("set", "me"), ("set2", "a")]),
        max_size=2,
        unique=True,
    ).map(tuple),
    contains=st.sampled_from([None, None, "STAR", "0%", "a_b", "%", "_", "circle and", ""]),
    seed=st.sampled_from([None, None, 1, 9]),
    model=st.sampled_from([None, None, "starter"]),
    row=st.sampled_from([None, None, None, 2]),
    truncated=st.booleans(),
)


@given(wanted=filters, limit=st.integers(1, 30))
def test_turning_pages_shows_every_image_that_meets_the_filter_once_and_in_order(
    catalog: Catalog, wanted: ImageFilter, limit: int
) -> None:
    ledger, rows = catalog
    shown: list[tuple[str, ImageRow]] = []
    after: tuple[int, int] | None = None
    with ledger.read() as connection:
        while page := list(images.page(connection, wanted, limit=limit, after=after)):
            assert len(page) <= limit
            shown += page
            after = (page[-1][1].job_id, page[-1][1].item)
    names = {1: "one", 2: "two"}
    assert shown == [(names[row.job_id], row) for row in rows if meets(row, wanted)]


@given(wanted=filters, job_id=st.integers(0, 3), item=st.integers(-1, 41))
def test_a_page_may_start_after_any_place(
    catalog: Catalog, wanted: ImageFilter, job_id: int, item: int
) -> None:
    ledger, rows = catalog
    with ledger.read() as connection:
        page = list(images.page(connection, wanted, limit=99, after=(job_id, item)))
    beyond = [row for row in rows if (row.job_id, row.item) > (job_id, item)]
    assert [row for _, row in page] == [row for row in beyond if meets(row, wanted)]


@pytest.mark.parametrize("row_of", [full_row, make_image_row], ids=["full", "sparse"])
def test_an_image_comes_back_as_it_was_recorded(
    ledger: Ledger, task: ClaimedTask, row_of: Callable[..., ImageRow]
) -> None:
    row = row_of(task, 3, prompt="a 'quoted' \"猫\" 🎉\n%", seed=2**32 - 1)
    insert(ledger, [row])
    with ledger.read() as connection:
        assert images.get(connection, "job", 3) == row


@pytest.mark.parametrize(("job", "item"), [("job", 4), ("other", 3)])
def test_an_image_that_is_not_there_is_answered_with_where_to_look(
    ledger: Ledger, task: ClaimedTask, job: str, item: int
) -> None:
    insert(ledger, [make_image_row(task, 3)])
    with ledger.read() as connection, pytest.raises(NotFoundError) as caught:
        images.get(connection, job, item)
    assert str(caught.value) == f"no image {job}/{item}"
    assert caught.value.hint == f"see what there is: rendermill images --job {job}"


def test_tags_are_compared_whole_and_never_run(ledger: Ledger, task: ClaimedTask) -> None:
    odd = {"a'b": '"; DROP TABLE images; --', "": "", "k": "Ünï%_"}
    insert(ledger, [make_image_row(task, 0, tags=msgspec.json.encode(odd).decode())])

    def found(key: str, value: str) -> int:
        with ledger.read() as connection:
            return len(list(images.page(connection, ImageFilter(tags=((key, value),)), limit=9)))

    assert [found(key, value) for key, value in odd.items()] == [1, 1, 1]
    assert [found("k", "Ün"), found("K", "Ünï%_"), found("k", "ünï%_")] == [0, 0, 0]


def test_outcomes_of_many_items_are_read_in_order_as_far_as_there_are_any(
    ledger: Ledger, worker_id: int
) -> None:
    task = claimed(ledger, items=1300)
    insert(ledger, [make_image_row(task, item) for item in range(0, 1300, 2)])
    with ledger.read() as connection:
        found = [row.item for row in images.of_items(connection, 1, range(1, 1300))]
        none = list(images.of_items(connection, 2, range(1300)))
    assert found == list(range(2, 1300, 2))
    assert none == []


def test_failures_are_counted_by_reason_and_long_prompts_by_job(
    ledger: Ledger, task: ClaimedTask
) -> None:
    faults = [Reason.NAN, Reason.MODEL, Reason.NAN]
    rows = [
        make_image_row(task, item, outcome=Outcome.FAILED, reason=reason, truncated_tokens=item)
        for item, reason in enumerate(faults)
    ]
    other = claimed(ledger, job="other")
    insert(ledger, [*rows, make_image_row(task, 5, truncated_tokens=1), make_image_row(other, 0)])
    with ledger.read() as connection:
        assert list(images.failure_counts(connection, 1).items()) == [("nan", 2), ("model", 1)]
        assert images.failure_counts(connection, 2) == {}
        assert images.truncated_count(connection, 1) == 3
        assert images.truncated_count(connection, 2) == 0


PAGES = {
    "all": (ImageFilter(), "sqlite_autoindex_images_1 ((job_id,item)>(?,?))"),
    "job": (ImageFilter(job_id=1), "sqlite_autoindex_images_1 (job_id=? AND item>?)"),
    "failed": (ImageFilter(outcome="failed"), "ix_images_failed ((job_id,item)>(?,?))"),
    "failed of a job": (
        ImageFilter(job_id=1, outcome="failed"),
        "ix_images_failed (job_id=? AND item>?)",
    ),
    "seed": (ImageFilter(seed=4), "ix_images_seed (seed=? AND (job_id,item)>(?,?))"),
    "model": (ImageFilter(model="m"), "ix_images_model (model=? AND (job_id,item)>(?,?))"),
    "tag": (ImageFilter(tags=(("a", "b"),)), "(key=? AND value=? AND (job_id,item)>(?,?))"),
    "tags": (
        ImageFilter(tags=(("a", "b"), ("c", "d")), model="m"),
        "(key=? AND value=? AND (job_id,item)>(?,?))",
    ),
    "tag of a job": (
        ImageFilter(job_id=1, tags=(("a", "b"),)),
        "(key=? AND value=? AND job_id=? AND item>?)",
    ),
}


@pytest.mark.parametrize(("wanted", "index"), PAGES.values(), ids=PAGES)
def test_a_page_is_read_from_an_index_that_starts_where_the_last_page_ended(
    plan_of: PlanOf, wanted: ImageFilter, index: str
) -> None:
    plan = plan_of(lambda c: images.page(c, wanted, limit=5, after=(1, 5)))

    assert any(step.startswith("SEARCH") and step.endswith(index) for step in plan), plan
    assert not any(step.startswith("SCAN") for step in plan)
    assert "USE TEMP B-TREE FOR ORDER BY" not in plan


def test_the_first_page_stops_at_its_limit_instead_of_sorting(plan_of: PlanOf) -> None:
    plan = plan_of(lambda c: images.page(c, ImageFilter(), limit=5))
    assert plan[0] == "SCAN images USING INDEX sqlite_autoindex_images_1"
    assert "USE TEMP B-TREE FOR ORDER BY" not in plan


def test_the_end_of_a_task_reads_its_own_items_only(plan_of: PlanOf) -> None:
    assert plan_of(lambda c: images.of_items(c, 1, [1, 2])) == [
        "SEARCH images USING INDEX sqlite_autoindex_images_1 (job_id=? AND item=?)"
    ]
