"""Jobs: writing a submitted one, and finding it again."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from storage.contract.errors import NotFoundError
from storage.contract.states import JobState
from storage.db import groups, jobs, shards, tables
from storage.db.engine import Ledger
from storage.objects.memory import MemoryStore
from storage.testing.factories import add_groups, add_job, make_requirements, make_spec


@pytest.fixture
def new_job() -> jobs.NewJob:
    """A job that is ready to be written."""
    return jobs.NewJob(
        name="shapes",
        digest="d",
        token="t",
        manifest="shapes.csv",
        settings='{"seed":1}',
        priority=3,
        item_count=10,
        rejected=2,
        submitter="ada",
        deadline_at=99.0,
        cpu="never",
        webhook="https://example.org/hook",
        output='{"format":"jpeg"}',
    )


def found_name(ledger: Ledger, reference: str) -> str:
    with ledger.read() as connection:
        return jobs.find(connection, reference).name


def test_a_submitted_job_is_open_with_all_its_items_claimable(
    ledger: Ledger, new_job: jobs.NewJob
) -> None:
    spec, needs = make_spec(denoise=3, clip_skip=1), make_requirements(resident=5)
    new_groups = [
        jobs.NewGroup(spec=spec, requirements=needs, first_item=first, stop_item=stop)
        for first, stop in ((0, 4), (4, 10))
    ]
    new_shard = jobs.NewShard(first_item=0, item_count=10, object_key="k")
    with ledger.write() as connection:
        job_id = jobs.create(connection, new_job, new_groups, [new_shard], now=5.0)

    with ledger.read() as connection:
        job = jobs.get(connection, job_id)
        views = list(groups.of_job(connection, job_id, limit=9))
        places = shards.covering(connection, job_id, 0, 10)
        events = connection.execute(sa.select(tables.events)).all()
    assert job == jobs.Job(
        id=job_id,
        name="shapes",
        state=JobState.OPEN,
        digest="d",
        token="t",
        manifest="shapes.csv",
        settings='{"seed":1}',
        priority=3,
        item_count=10,
        done=0,
        failed=0,
        rejected=2,
        created_at=5.0,
        finished_at=None,
        submitter="ada",
        deadline_at=99.0,
        cpu="never",
        webhook="https://example.org/hook",
        output='{"format":"jpeg"}',
    )
    assert (job.remaining, job.ended) == (10, False)
    assert [(v.first_item, v.stop_item, v.claimable) for v in views] == [(0, 4, 4), (4, 10, 6)]
    assert [(v.spec, v.requirements, v.leased, v.done, v.failed) for v in views] == [
        (spec, needs, 0, 0, 0)
    ] * 2
    assert places == [(0, "k")]
    assert [(e.entity, e.entity_id, e.verb, e.detail, e.at) for e in events] == [
        ("job", job_id, "submit", "shapes", 5.0)
    ]


def test_two_jobs_never_have_one_name(ledger: Ledger, new_job: jobs.NewJob) -> None:
    def create() -> None:
        with ledger.write() as connection:
            jobs.create(connection, new_job, [], [], now=1.0)

    create()
    with pytest.raises(IntegrityError, match=r"(?i)unique constraint.*jobs[._]name"):
        create()


def test_a_job_is_found_by_its_name_or_number(ledger: Ledger) -> None:
    add_groups(ledger, (1, 1), name="shapes")
    assert found_name(ledger, "shapes") == found_name(ledger, "1") == "shapes"


def test_a_name_that_looks_like_a_number_is_a_name_first(ledger: Ledger) -> None:
    for name in ("2", "other", "1"):
        add_groups(ledger, (1, 1), name=name)
    assert [found_name(ledger, reference) for reference in "123"] == ["1", "2", "1"]


@pytest.mark.parametrize("reference", ["nope", "2", "9" * 19, "9" * 5000, "", "SHAPES"])
def test_a_job_that_is_not_there_is_answered_with_the_newest(
    ledger: Ledger, reference: str
) -> None:
    with pytest.raises(NotFoundError, match="there are none yet"):
        found_name(ledger, reference)
    add_groups(ledger, (1, 1), name="shapes")
    with pytest.raises(NotFoundError, match="the newest are: shapes") as caught:
        found_name(ledger, reference)
    assert caught.value.hint == "list them: rendermill jobs"


def test_a_long_number_can_be_a_name(ledger: Ledger) -> None:
    add_groups(ledger, (1, 1), name="20240101123456789012")
    assert found_name(ledger, "20240101123456789012") == "20240101123456789012"


def test_a_job_is_looked_up_by_its_exact_name(ledger: Ledger) -> None:
    add_groups(ledger, (1, 1), name="shapes")
    with ledger.read() as connection:
        found = jobs.by_name(connection, "shapes")
        assert found == jobs.get(connection, 1)
        assert jobs.by_name(connection, "1") is None


def test_jobs_are_listed_from_the_newest_on_page_by_page(ledger: Ledger) -> None:
    for name in "abcde":
        add_groups(ledger, (1, 1), name=name)
    with ledger.read() as connection:
        pages = [[job.name for job in jobs.newest(connection, limit=2)]]
        for before in (4, 2, 1):
            page = jobs.newest(connection, limit=2, before=before)
            pages.append([job.name for job in page])
    assert pages == [["e", "d"], ["c", "b"], ["a"], []]


@pytest.mark.parametrize(
    ("stem", "like"),
    [
        ("a_b", {"a_b", "a_b-2"}),
        ("a", {"a", "a-2", "a-b"}),
        ("a.b", {"a.b-1"}),
        ("none", set()),
    ],
)
def test_names_like_a_stem_are_those_that_could_clash(
    ledger: Ledger, stem: str, like: set[str]
) -> None:
    for name in ("a_b", "a_b-2", "axb-2", "a", "a-2", "a-b", "ab", "a.b-1"):
        add_groups(ledger, (1, 1), name=name)
    with ledger.read() as connection:
        assert jobs.names_like(connection, stem) == like


def test_the_factories_agree_with_the_ledger(ledger: Ledger, store: MemoryStore) -> None:
    job = add_job(ledger, store, priority=7)
    with ledger.read() as connection:
        (place,) = shards.covering(connection, job.id, 0, job.item_count)
        assert jobs.get(connection, job.id) == job
    assert store.size(place[1])
