"""Items whose images are in the catalog are linked, and only the others are left to render."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from scheduler.manifest.grouping import Describe
from scheduler.manifest.limits import Limits
from scheduler.service.options import SubmitOptions
from scheduler.service.prepare import prepared
from scheduler.service.reusing import Reuse, last_versions
from scheduler.service.submit import Submitted, submit
from storage.contract.errors import LedgerUnavailable
from storage.contract.items import GroupSpec
from storage.contract.lineage import Lineage
from storage.contract.output import OutputOptions, decode_output
from storage.contract.reuse import LIBRARIES, reuse_keys
from storage.contract.shards import unpack
from storage.contract.states import JobState
from storage.db import groups, images, jobs, links, shards, tables
from storage.db.engine import Ledger, open_sqlite
from storage.db.images import ImageRow
from storage.db.tables import image_tags, returned
from storage.models.hashes import FileHashes
from storage.objects.memory import MemoryStore
from storage.testing.factories import add_worker, cut_task, make_image_row, ref_of

VERSIONS = {name: version(name) for name in LIBRARIES}
Submit = Callable[..., Submitted]


class _Known(Reuse):
    """Knows the weights of every model by its name."""

    def _weights(self, spec: GroupSpec) -> str | None:
        return f"weights of {spec.model}"


def rows_of(prompts: Sequence[str], **fields: Any) -> str:
    return "".join(json.dumps({"prompt": prompt, "seed": 1, **fields}) + "\n" for prompt in prompts)


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
def submit_rows(ledger: Ledger, store: MemoryStore, describe: Describe, tmp_path: Path) -> Submit:
    """Submits a manifest, with reuse."""

    def submit_manifest(content: str, *, reuse: bool = True, **options: Any) -> Submitted:
        path = tmp_path / "rows.jsonl"
        path.write_text(content)
        asked = SubmitOptions(manifest=str(path), **options)
        known = _Known(ledger, FileHashes()) if reuse else None
        with prepared(asked, limits=Limits(), describe=describe) as work:
            return submit(work, str(path), ledger=ledger, store=store, reuse=known)

    return submit_manifest


def render(ledger: Ledger, store: MemoryStore, job: jobs.Job) -> list[int]:
    """Render all that is claimable of a job, as workers would; which items those were."""
    from storage.db import tasks

    worker = add_worker(ledger)
    rendered: list[int] = []
    output = decode_output(job.output)
    with ledger.read() as connection:
        found = list(groups.of_job(connection, job.id, limit=100))
        places = shards.covering(connection, job.id, 0, job.item_count)
    items = {
        first + at: item for first, key in places for at, item in enumerate(unpack(store.get(key)))
    }
    for group in found:
        while task := cut_task(ledger, worker, items=10_000, group_id=group.id):
            keys = reuse_keys(
                task.spec, output, weights=f"weights of {task.spec.model}", versions=VERSIONS
            )
            assert keys is not None
            some = [
                make_image_row(
                    task,
                    number,
                    prompt=items[number].prompt,
                    seed=items[number].seed,
                    reuse_key=keys.of(items[number]),
                    rendering=json.dumps(
                        {"mode": "cpu", "dtype": "float32", "device": "cpu", "batch": 1,
                         "weights": "w", "versions": VERSIONS}
                    ),
                )
                for number in range(task.first_item, task.stop_item)
            ]  # fmt: skip
            with ledger.write() as connection:
                tasks.commit(connection, ref_of(task), some, expires_at=2e9, now=ledger.now())
            rendered += range(task.first_item, task.stop_item)
    return rendered


def rows_in(ledger: Ledger, job: jobs.Job) -> list[ImageRow]:
    with ledger.read() as connection:
        return list(images.of_items(connection, job.id, range(job.item_count)))


def now_of(ledger: Ledger, job: jobs.Job) -> jobs.Job:
    with ledger.read() as connection:
        return jobs.get(connection, job.id)


def test_a_second_submit_links_everything_and_is_done_at_once(
    submit_rows: Submit, ledger: Ledger, store: MemoryStore
) -> None:
    content = rows_of(["a", "b", "c"], kind="test")
    first = submit_rows(content)
    assert first.linked == 0
    assert render(ledger, store, first.job) == [0, 1, 2]
    second = submit_rows(content)
    assert (second.linked, second.job.state, second.job.done) == (3, JobState.FINISHED, 3)
    assert second.job.finished_at is not None
    assert render(ledger, store, second.job) == []
    made, linked = rows_in(ledger, first.job), rows_in(ledger, second.job)
    assert [row.object_key for row in linked] == [row.object_key for row in made]
    assert [(row.linked_job, row.linked_item) for row in linked] == [
        (first.job.id, item) for item in range(3)
    ]
    assert {row.outcome for row in linked} == {"rendered"}


def test_a_third_submit_links_to_what_was_rendered_not_to_links(
    submit_rows: Submit, ledger: Ledger, store: MemoryStore
) -> None:
    first = submit_rows(rows_of(["a"])).job
    render(ledger, store, first)
    submit_rows(rows_of(["a"]))
    third = submit_rows(rows_of(["a"])).job
    assert [row.linked_job for row in rows_in(ledger, third)] == [first.id]


def test_of_ten_thousand_rows_the_one_that_changed_is_rendered(
    submit_rows: Submit, ledger: Ledger, store: MemoryStore
) -> None:
    prompts = [f"prompt {number}" for number in range(10_000)]
    render(ledger, store, submit_rows(rows_of(prompts)).job)
    prompts[4_321] = "something else"
    again = submit_rows(rows_of(prompts))
    assert (again.linked, again.job.state, again.job.remaining) == (9_999, JobState.OPEN, 1)
    assert render(ledger, store, again.job) == [4_321]
    assert now_of(ledger, again.job).state == JobState.FINISHED


def test_linking_takes_no_statement_an_image(
    submit_rows: Submit, ledger: Ledger, store: MemoryStore
) -> None:
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        asked.append(text)

    def counted(content: str) -> int:
        asked.clear()
        sa.event.listen(ledger.engine, "before_cursor_execute", note)
        submit_rows(content)
        sa.event.remove(ledger.engine, "before_cursor_execute", note)
        return len(asked)

    few, many = (rows_of([f"{n}" for n in range(count)]) for count in (10, 1_500))
    for content in (few, many):
        render(ledger, store, submit_rows(content).job)
    assert counted(many) <= counted(few) + 3


def test_without_reuse_everything_is_rendered(
    submit_rows: Submit, ledger: Ledger, store: MemoryStore
) -> None:
    render(ledger, store, submit_rows(rows_of(["a"])).job)
    again = submit_rows(rows_of(["a"]), reuse=False)
    assert again.linked == 0
    assert render(ledger, store, again.job) == [0]


@pytest.mark.parametrize(
    "change",
    [
        {"overrides": {"num_inference_steps": "7"}},
        {"model": "other"},
        {"dtype": "float32"},
        {"output": {"format": "jpeg"}},
        {"output": {"metadata": "none"}},
    ],
)
def test_what_changes_pictures_is_rendered_again(
    submit_rows: Submit, ledger: Ledger, store: MemoryStore, change: dict[str, Any]
) -> None:
    render(ledger, store, submit_rows(rows_of(["a"])).job)
    assert submit_rows(rows_of(["a"]), **change).linked == 0


def test_several_groups_are_each_left_what_is_theirs(
    submit_rows: Submit, ledger: Ledger, store: MemoryStore
) -> None:
    small = ["a", "b", "c", "d"]
    render(ledger, store, submit_rows(rows_of(small, width=64) + rows_of(small, width=128)).job)
    changed = rows_of(["a", "x", "c", "y"], width=64) + rows_of(small, width=128)
    again = submit_rows(changed)
    assert again.linked == 6
    with ledger.read() as connection:
        found = list(groups.of_job(connection, again.job.id, limit=9))
        ranges = connection.execute(sa.select(returned.c.first_item, returned.c.stop_item)).all()
    assert [(one.done, one.claimable, one.leased) for one in found] == [(2, 2, 0), (4, 0, 0)]
    assert sorted(map(tuple, ranges)) == [(1, 2), (3, 4)]
    assert render(ledger, store, again.job) == [1, 3]
    assert now_of(ledger, again.job).state == JobState.FINISHED


def test_a_link_has_the_tags_and_place_of_its_own_row(
    submit_rows: Submit, ledger: Ledger, store: MemoryStore
) -> None:
    render(ledger, store, submit_rows(rows_of(["a", "b"], place="old")).job)
    job = submit_rows(rows_of(["zero", "a"], place="new")).job
    render(ledger, store, job)
    (row,) = [row for row in rows_in(ledger, job) if row.linked_job is not None]
    assert (row.item, row.row, row.line, row.tags) == (1, 1, 2, '{"place":"new"}')
    with ledger.read() as connection:
        tags = connection.execute(
            sa.select(image_tags.c.value).where(image_tags.c.job_id == job.id)
        ).scalars()
        assert "new" in list(tags)


def test_ranges_left_are_few_however_rows_changed(
    submit_rows: Submit, ledger: Ledger, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links.unlinked, "__defaults__", (5,))
    prompts = [f"prompt {number}" for number in range(100)]
    render(ledger, store, submit_rows(rows_of(prompts)).job)
    every_other = [p if n % 2 else f"new {n}" for n, p in enumerate(prompts)]
    again = submit_rows(rows_of(every_other))
    with ledger.read() as connection:
        count = connection.execute(sa.select(sa.func.count()).select_from(returned)).scalar_one()
    assert count <= 5
    rendered = render(ledger, store, again.job)
    assert {n for n in range(100) if n % 2 == 0} <= set(rendered)
    assert len(rendered) + again.linked == 100
    assert now_of(ledger, again.job).state == JobState.FINISHED


def test_a_submit_that_fails_leaves_no_link(
    submit_rows: Submit, ledger: Ledger, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    render(ledger, store, submit_rows(rows_of(["a", "b"])).job)

    def count() -> int:
        with ledger.read() as connection:
            return sum(
                connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
                for table in tables.metadata.sorted_tables
            )

    def fail(*_: object, **__: object) -> None:
        raise LedgerUnavailable("the power went")

    before = count()
    monkeypatch.setattr(links, "settle", fail)
    with pytest.raises(LedgerUnavailable):
        submit_rows(rows_of(["a", "b"]))
    assert count() == before


def test_an_image_hidden_meanwhile_is_rendered(
    submit_rows: Submit, ledger: Ledger, store: MemoryStore
) -> None:
    first = submit_rows(rows_of(["a", "b"])).job
    render(ledger, store, first)
    with ledger.write() as connection:
        connection.execute(
            sa.update(tables.images).where(tables.images.c.item == 1).values(hidden_at=1.0)
        )
    again = submit_rows(rows_of(["a", "b"]))
    assert again.linked == 1
    assert render(ledger, store, again.job) == [1]


def test_a_link_says_how_its_own_row_came_to_be() -> None:
    from scheduler.service.reusing import _lineage
    from storage.testing.factories import make_item

    before = Lineage(template="{x|y}", attempts=2, licence="mit").encode()
    values: dict[str, Any] = dict.fromkeys(ImageRow.__struct_fields__)
    source = ImageRow(**(values | {"lineage": before}))
    told = _lineage(make_item(template="{a|b}"), source)
    assert told is not None
    assert json.loads(told) == {"template": "{a|b}", "attempts": 2, "licence": "mit"}


def test_where_there_is_no_torch_the_versions_are_those_last_rendered_with(
    submit_rows: Submit, ledger: Ledger, store: MemoryStore
) -> None:
    with ledger.read() as connection:
        assert last_versions(connection) == {}
    render(ledger, store, submit_rows(rows_of(["a"])).job)
    with ledger.read() as connection:
        assert last_versions(connection) == VERSIONS


def test_a_model_that_is_not_here_is_not_looked_up(ledger: Ledger, tmp_path: Path) -> None:
    from storage.db.jobs import NewGroup
    from storage.testing.factories import make_requirements, make_spec

    spec = make_spec(model=str(tmp_path / "gone"))
    group = NewGroup(spec=spec, requirements=make_requirements(), first_item=0, stop_item=1)
    plan = Reuse.at(ledger, tmp_path).plan([group], OutputOptions())
    assert not plan.is_hopeful
