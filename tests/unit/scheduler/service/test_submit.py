"""Writing a checked manifest: shards into the object store, then one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from scheduler.manifest.grouping import Describe
from scheduler.manifest.limits import Limits
from scheduler.service.options import SubmitOptions
from scheduler.service.prepare import prepared
from scheduler.service.submit import Submitted, submit
from storage.contract.errors import InputError, LedgerUnavailable, StoreFull, StoreUnavailable
from storage.contract.items import Item
from storage.contract.keys import JOB_NAME, rejected_key
from storage.contract.shards import unpack
from storage.contract.states import JobState
from storage.db import groups, jobs, shards, tables
from storage.db.engine import Ledger
from storage.objects.memory import MemoryStore

Submit = Callable[..., Submitted]
Write = Callable[[str, str | bytes], str]

ROWS = "".join(
    json.dumps({"prompt": f"prompt {number}", "width": (64, 128)[number % 2]}) + "\n"
    for number in range(10)
)


@pytest.fixture
def submit_file(ledger: Ledger, store: MemoryStore, describe: Describe, write: Write) -> Submit:
    """Submits a manifest."""

    def submit_manifest(content: str = ROWS, file: str = "a.jsonl", **options: Any) -> Submitted:
        path = write(file, content)
        asked = SubmitOptions(manifest=path, **options)
        with prepared(asked, limits=Limits(), describe=describe) as work:
            return submit(work, path, ledger=ledger, store=store)

    return submit_manifest


@pytest.fixture
def everything(ledger: Ledger) -> Callable[[], int]:
    """Counts all rows of all tables."""

    def count() -> int:
        with ledger.read() as connection:
            return sum(
                connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
                for table in tables.metadata.sorted_tables
            )

    return count


def items_of(ledger: Ledger, store: MemoryStore, job: jobs.Job) -> list[Item]:
    with ledger.read() as connection:
        found = shards.covering(connection, job.id, 0, job.item_count)
    return [item for _, key in found for item in unpack(store.get(key))]


# A job


def test_a_manifest_becomes_a_job_with_groups_and_shards(
    submit_file: Submit, ledger: Ledger, store: MemoryStore
) -> None:
    submitted = submit_file(name="mine", priority=4, seed=2)
    job = submitted.job
    assert submitted.created
    assert (job.name, job.state, job.priority) == ("mine", JobState.OPEN, 4)
    assert (job.item_count, job.done, job.failed, job.rejected) == (10, 0, 0, 0)
    assert job.manifest.endswith("/a.jsonl")
    assert json.loads(job.settings)["seed"] == 2
    with ledger.read() as connection:
        found = list(groups.of_job(connection, job.id, limit=10))
    assert [(one.spec.width, one.first_item, one.stop_item, one.claimable) for one in found] == [
        (64, 0, 5, 5),
        (128, 5, 10, 5),
    ]
    items = items_of(ledger, store, job)
    assert [item.row for item in items] == [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]


def test_every_object_of_a_job_lies_in_a_folder_of_its_own(
    submit_file: Submit, store: MemoryStore
) -> None:
    one, other = submit_file().job, submit_file().job
    assert one.token != other.token
    assert all(
        key.startswith((f"jobs/{one.token}/", f"jobs/{other.token}/")) for key in store.objects
    )


def test_rejected_rows_are_kept_with_their_reasons(
    submit_file: Submit, ledger: Ledger, store: MemoryStore
) -> None:
    content = ROWS + '{"prompt": 7}\n' + ROWS + '{"prompt": "a", "seed": -1}\n'
    job = submit_file(content, skip_invalid=True).job
    assert (job.item_count, job.rejected) == (20, 2)
    kept = [json.loads(line) for line in store.get(rejected_key(job.token)).splitlines()]
    assert [(one["row"], one["line"]) for one in kept] == [(10, 11), (21, 22)]
    assert kept[1]["problems"][0].endswith("a.jsonl:22: seed: must be 0 to 4294967295, not -1")
    assert len(items_of(ledger, store, job)) == 20


def test_without_rejected_rows_nothing_is_kept_of_them(
    submit_file: Submit, store: MemoryStore
) -> None:
    job = submit_file(skip_invalid=True).job
    assert store.size(rejected_key(job.token)) is None


def test_a_dry_run_cannot_be_submitted(
    ledger: Ledger, store: MemoryStore, describe: Describe, write: Write
) -> None:
    options = SubmitOptions(manifest=write("a.jsonl", ROWS))
    with (
        prepared(options, limits=Limits(), describe=describe, dry_run=True) as work,
        pytest.raises(TypeError),
    ):
        submit(work, "a.jsonl", ledger=ledger, store=store)
    assert store.objects == {}


def test_a_manifest_whose_name_is_not_utf8_can_be_submitted(submit_file: Submit) -> None:
    job = submit_file(file="a\udcff.jsonl").job
    assert job.manifest.endswith("/a\ufffd.jsonl")


# Names


def test_the_same_manifest_under_the_same_name_finds_the_first_job(
    submit_file: Submit, store: MemoryStore
) -> None:
    first = submit_file(name="mine")
    objects = dict(store.objects)
    again = submit_file(name="mine", file="b.jsonl")
    assert (first.created, again.created) == (True, False)
    assert again.job == first.job
    assert store.objects == objects


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (ROWS + ROWS, {}),
        (ROWS, {"seed": 1}),
        (ROWS, {"overrides": {"steps": "3"}}),
        (ROWS, {"model": "other"}),
        (ROWS, {"skip_invalid": True}),
    ],
    ids=["content", "seed", "setting", "model", "skip"],
)
def test_another_manifest_under_the_same_name_is_an_error(
    submit_file: Submit,
    everything: Callable[[], int],
    store: MemoryStore,
    content: str,
    options: dict[str, Any],
) -> None:
    submit_file(name="mine")
    before = everything(), dict(store.objects)
    with pytest.raises(InputError) as caught:
        submit_file(content, name="mine", **options)
    assert caught.value.message.startswith(
        "there is a job 'mine' already, made from another manifest or other settings"
    )
    assert caught.value.hint == "choose another --name, or none"
    assert (everything(), store.objects) == before


@pytest.mark.parametrize("faster", ["the same", "another"])
def test_of_two_that_submit_under_one_name_at_once_the_second_finds_the_first(
    submit_file: Submit,
    store: MemoryStore,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    faster: str,
) -> None:
    first: list[Submitted] = []
    put = store.put

    def put_while_another_submits(key: str, data: bytes, *, durable: bool = True) -> None:
        monkeypatch.setattr(store, "put", put)
        put(key, data, durable=durable)
        content = ROWS if faster == "the same" else ROWS * 2
        first.append(submit_file(content, "b.jsonl", name="mine"))

    monkeypatch.setattr(store, "put", put_while_another_submits)
    if faster == "the same":
        second = submit_file(name="mine")
        assert (second.created, second.job) == (False, first[0].job)
    else:
        with pytest.raises(InputError, match="there is a job 'mine' already"):
            submit_file(name="mine")
    with ledger.read() as connection:
        assert [job.name for job in jobs.newest(connection, limit=9)] == ["mine"]
    assert len(items_of(ledger, store, first[0].job)) == first[0].job.item_count
    assert {key.split("/")[1] for key in store.objects} == {first[0].job.token}


@pytest.mark.parametrize(
    "name", ["", "A", "a b", "-a", ".a", "a/b", "ä", "a" * 65, "a\n", "a\0", "..", "a%"]
)
def test_a_name_that_no_job_can_have_is_refused(
    submit_file: Submit, everything: Callable[[], int], store: MemoryStore, name: str
) -> None:
    before = everything()
    with pytest.raises(InputError, match="cannot be a job's name: it must be 1 to 64 small"):
        submit_file(name=name)
    assert (everything(), store.objects) == (before, {})


def test_a_job_without_a_name_gets_that_of_its_file_and_a_number_if_it_is_taken(
    submit_file: Submit,
) -> None:
    names = [submit_file(file="My Shapes.jsonl").job.name for _ in range(4)]
    assert names == ["my-shapes", "my-shapes-2", "my-shapes-3", "my-shapes-4"]


def test_a_number_that_is_taken_is_passed_over(submit_file: Submit) -> None:
    submit_file(name="a")
    submit_file(name="a-2")
    submit_file(name="a-4")
    assert [submit_file().job.name for _ in range(3)] == ["a-3", "a-5", "a-6"]


@pytest.mark.parametrize("length", [1, 55, 56, 57, 60, 63, 64, 80])
def test_names_are_free_and_legal_however_long_the_files(submit_file: Submit, length: int) -> None:
    names = [submit_file(file=f"{'x' * length}.jsonl").job.name for _ in range(12)]
    assert len(set(names)) == 12
    assert all(JOB_NAME.fullmatch(name) for name in names)


@pytest.mark.parametrize("stem", ["a%", "a_", "a\\", "100%"])
def test_signs_that_mean_something_to_sql_mean_nothing_in_names(
    submit_file: Submit, stem: str
) -> None:
    submit_file(file="abc-7.jsonl")
    names = {submit_file(file=f"{stem}.jsonl").job.name for _ in range(3)}
    assert len(names) == 3


# Failures


@pytest.mark.parametrize(
    "error", [StoreFull("full"), StoreUnavailable("away"), KeyboardInterrupt()]
)
@pytest.mark.parametrize("good", [0, 1, 2, 3])  # three shards, then the rejected rows
def test_a_store_that_fails_leaves_neither_rows_nor_objects(
    submit_file: Submit,
    everything: Callable[[], int],
    store: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
    good: int,
    error: BaseException,
) -> None:
    original = store.put
    puts: list[str] = []

    def put(key: str, data: bytes, *, durable: bool = True) -> None:
        puts.append(key)
        if len(puts) > good:
            # A part may be there all the same.
            original(key, data[:1])
            raise error
        original(key, data, durable=durable)

    monkeypatch.setattr(store, "put", put)
    before = everything()
    rows = "".join(f'{{"prompt": "{number}"}}\n' for number in range(9000)) + '{"prompt": 7}\n'
    with pytest.raises(type(error)):
        submit_file(rows, skip_invalid=True)
    assert len(puts) == good + 1
    assert (everything(), store.objects) == (before, {})


@pytest.mark.parametrize("named", [True, False])
def test_a_ledger_that_fails_leaves_neither_rows_nor_objects(
    submit_file: Submit,
    everything: Callable[[], int],
    ledger: Ledger,
    store: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
    named: bool,
) -> None:
    before = everything()

    def fill(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA max_page_count=1")  # not one more than there are

    ledger.engine.dispose()
    with closing(sqlite3.connect(str(ledger.engine.url.database))) as connection:
        connection.execute("VACUUM")  # so that no page is free either
    event.listen(ledger.engine, "connect", fill)
    name = {"name": "mine"} if named else {}
    with pytest.raises(LedgerUnavailable, match="the disk is full"):
        submit_file(overrides={"negative_prompt": "x" * 10_000}, **name)
    assert (everything(), store.objects) == (before, {})


def test_an_interrupt_right_after_the_commit_leaves_the_job_whole(
    submit_file: Submit, ledger: Ledger, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = ledger.write

    @contextmanager
    def interrupted() -> Iterator[sa.Connection]:
        with write() as connection:
            yield connection
        raise KeyboardInterrupt

    monkeypatch.setattr(ledger, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        submit_file(name="mine")
    with ledger.read() as connection:
        job = jobs.by_name(connection, "mine")
    assert job is not None
    assert len(items_of(ledger, store, job)) == 10


def test_a_store_that_cannot_even_delete_hides_no_error(
    submit_file: Submit, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def delete(_keys: Any) -> None:
        raise StoreUnavailable("still away")

    monkeypatch.setattr(store, "failing", StoreFull("full"))
    monkeypatch.setattr(store, "delete", delete)
    with pytest.raises(StoreFull, match=r"^full$"):
        submit_file()
