"""Migrations and tables agree, and a ledger is brought up to date once and safely."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from storage.contract.errors import LedgerUnavailable, SchemaMismatch
from storage.db import images, jobs, migrations, schema, tasks
from storage.db.engine import Ledger, open_postgres, open_sqlite
from storage.db.groups import of_job as groups_of
from storage.db.schema import HEAD, ensure_schema
from storage.db.tables import groups, metadata
from storage.testing.factories import (
    add_groups,
    add_worker,
    cut_task,
    make_image_row,
    ref_of,
)

TRIGRAMS = "ix_search_words_trigrams"
"""Only where the extension is: the migration makes it, the tables do not name it."""

NOT_COMPARED = ("sqlite_", "alembic_", "images_", "search_fts", "search_spellings", TRIGRAMS)

Everything = Callable[[], dict[str, list[Any]]]


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger without tables."""
    if request.param == "postgresql":
        opened = open_postgres(request.getfixturevalue("postgres_url"))
    else:
        opened = open_sqlite(tmp_path / "empty.db")
    yield opened
    opened.close()


@pytest.fixture
def fresh(empty: Ledger) -> Ledger:
    """A ledger of this test's own, brought up to date."""
    ensure_schema(empty)
    return empty


@pytest.fixture
def alembic() -> Config:
    """Alembic's settings, with our migrations."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    return config


def on_sqlite(ledger: Ledger) -> bool:
    return ledger.engine.dialect.name == "sqlite"


def run(ledger: Ledger, alembic: Config, way: Callable[[Config, str], None], to: str) -> None:
    """Let Alembic go up or down to a revision."""
    with ledger.write() as connection:
        alembic.attributes["connection"] = connection
        way(alembic, to)


def made(ledger: Ledger) -> set[tuple[str, str]]:
    """Tables and indexes, with the columns, constraints and conditions they were made with."""
    with ledger.read() as connection:
        found = connection.exec_driver_sql(_MADE[ledger.engine.dialect.name]).all()
    return {
        (name, ",".join(sorted(" ".join(text.replace("(", " ( ").split()).split(","))))
        for name, text in found
        if not name.startswith(NOT_COMPARED)
    }


_MADE = {
    "sqlite": "SELECT name, sql FROM sqlite_master WHERE sql NOT NULL",
    "postgresql": """
        SELECT indexname, indexdef FROM pg_indexes
        WHERE schemaname = 'public' AND tablename NOT LIKE 'images\\_%%'
        UNION ALL
        SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace
        AND conrelid::regclass::text NOT LIKE 'images\\_%%'
        UNION ALL
        SELECT table_name || '.' || column_name,
        concat_ws(' ', data_type, is_nullable, column_default)
        FROM information_schema.columns WHERE table_schema = 'public'
        UNION ALL
        SELECT c.relname, pg_get_partkeydef(c.oid) FROM pg_class c WHERE c.relkind = 'p'
    """,
}


def is_ours(_thing: object, name: str | None, kind: str, *_: object) -> bool:
    """Partitions are made as jobs are written; their indexes are those of the whole table."""
    if kind == "table":
        return not str(name).startswith(("images_", "search_fts", "search_spellings"))
    return name not in {TRIGRAMS, "ix_search_terms"}  # of PostgreSQL alone; compared below


def test_migrations_make_what_the_tables_say(fresh: Ledger) -> None:
    with fresh.read() as connection:
        options = {"compare_server_default": on_sqlite(fresh), "include_object": is_ours}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def test_migrations_and_tables_agree_in_what_alembic_does_not_compare(
    sqlite_ledger: Ledger, tmp_path: Path
) -> None:
    direct = open_sqlite(tmp_path / "direct.db")
    with direct.write() as connection:
        metadata.create_all(connection)

    def indexes(found: Ledger) -> set[str]:
        return {text.replace('"', "") for name, text in made(found) if name.startswith("ix_")}

    assert indexes(sqlite_ledger) == indexes(direct)
    autoincrement, without_rowid = (
        {name for name, text in made(sqlite_ledger) if words in text}
        for words in ("AUTOINCREMENT", "WITHOUT ROWID")
    )
    assert autoincrement == {name for name, text in made(direct) if "AUTOINCREMENT" in text}
    assert without_rowid == {name for name, text in made(direct) if "WITHOUT ROWID" in text}
    assert autoincrement >= {"jobs", "tasks", "workers"}
    direct.close()


def test_on_postgresql_too_down_to_the_last_constraint(
    postgres_template: str, postgres_url: str
) -> None:
    migrated, direct = open_postgres(postgres_template), open_postgres(postgres_url)
    with direct.write() as connection:
        metadata.create_all(connection)
    assert made(migrated) == made(direct)
    assert any("RANGE" in text for name, text in made(migrated) if name == "images")
    migrated.close()
    direct.close()


def test_head_is_what_alembic_finds(alembic: Config) -> None:
    assert ScriptDirectory.from_config(alembic).get_heads() == [HEAD]


def test_a_downgrade_leaves_nothing_and_an_upgrade_makes_all_again(
    fresh: Ledger, alembic: Config
) -> None:
    before = made(fresh)
    run(fresh, alembic, command.downgrade, "base")
    assert {name for name, _ in made(fresh) if not name.startswith("alembic")} == set()

    ensure_schema(fresh)
    assert made(fresh) == before


def test_going_up_and_down_keeps_every_row(empty: Ledger, alembic: Config) -> None:
    """From the first schema with a job under way to this one, back, and here again."""
    run(empty, alembic, command.upgrade, "0001")
    with empty.write() as connection:
        for statement in OLD_ROWS:
            connection.exec_driver_sql(statement)
        if not on_sqlite(empty):  # where numbers given by hand do not move what counts them
            for table in ("jobs", "groups", "tasks", "workers"):
                connection.exec_driver_sql(f"SELECT setval('{table}_id_seq', 7)")
    old = rows_of_0001(empty)
    assert len(old["images"]) == 2

    ensure_schema(empty)
    assert rows_of_0001(empty) == old
    with empty.read() as connection:
        keys = connection.execute(sa.select(groups.c.fit_key).order_by(groups.c.id)).scalars().all()
        assert jobs.get(connection, 7).submitter == ""
        assert images.get(connection, "old", 1).prompt == "one"
    assert keys[0] == keys[1] != keys[2]
    add_job_after(empty)

    run(empty, alembic, command.downgrade, "0001")
    assert rows_of_0001(empty, only=7) == old
    ensure_schema(empty)
    assert rows_of_0001(empty, only=7) == old


OLD_ROWS = (
    "INSERT INTO jobs (id, name, state, digest, token, manifest, settings, item_count, created_at)"
    " VALUES (7, 'old', 'open', 'd', 't', 'm', '{}', 6, 1)",
    "INSERT INTO workers (id, name, state, host, pid, process_started_at, device, vram_class,"
    " capability, started_at, seen_at)"
    " VALUES (1, 'w', 'gone', 'h', 1, 1, 'cpu', 'cpu', '{}', 1, 1)",
    *(
        "INSERT INTO groups (id, job_id, spec, model, requirements, profile_key, stop_item)"
        f" VALUES ({number}, 7, '{{}}', 'm', '{needs}', 'p', 2)"
        for number, needs in ((1, "a"), (2, "a"), (3, "b"))
    ),
    "INSERT INTO tasks (id, job_id, group_id, worker_id, state, lease, lease_expires_at, failures,"
    " claimed_at) VALUES (1, 7, 1, 1, 'finished', 1, 1, '[]', 1)",
    *(
        "INSERT INTO images (job_id, item, group_id, task_id, worker_id, outcome, prompt,"
        " negative_prompt, seed, model, width, height, num_inference_steps, guidance_scale,"
        f" scheduler, tags, created_at) VALUES (7, {item}, 1, 1, 1, 'rendered', '{prompt}', '', 1,"
        " 'm', 64, 64, 2, 1.5, 'ddim', '{}', 1)"
        for item, prompt in ((0, "zero"), (1, "one"))
    ),
)


def rows_of_0001(ledger: Ledger, *, only: int | None = None) -> dict[str, list[Any]]:
    """What the first schema holds, of one job or all."""
    where = f" WHERE job_id = {only}" if only else ""
    with ledger.read() as connection:
        return {
            "images": list(
                map(
                    tuple,
                    connection.exec_driver_sql(
                        f"SELECT job_id, item, prompt, seed, guidance_scale FROM images{where}"
                        " ORDER BY job_id, item"
                    ),
                )
            ),
            "groups": list(
                map(
                    tuple,
                    connection.exec_driver_sql(
                        f"SELECT id, job_id, requirements, stop_item FROM groups{where} ORDER BY id"
                    ),
                )
            ),
        }


def add_job_after(ledger: Ledger) -> None:
    """A further job, rendered whole: its rows find their place."""
    worker = add_worker(ledger)
    job = add_groups(ledger, (2, 1), name="new")
    assert job.id > 7
    with ledger.read() as connection:
        (group,) = groups_of(connection, job.id, limit=1)
    task = cut_task(ledger, worker, group_id=group.id)
    assert task
    with ledger.write() as connection:
        rows = [make_image_row(task, item) for item in (0, 1)]
        tasks.commit(connection, ref_of(task), rows, expires_at=1e9, now=2.0)


def test_bringing_it_up_to_date_again_changes_nothing(
    ledger: Ledger, everything: Everything, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("there was nothing to upgrade")

    add_worker(ledger)
    before = everything()
    monkeypatch.setattr(schema, "_upgrade", refuse)
    ensure_schema(ledger)
    assert everything() == before


def test_many_may_bring_a_new_ledger_up_to_date_at_once(empty: Ledger) -> None:
    url = empty.engine.url.render_as_string(hide_password=False)
    together = threading.Barrier(3)

    def bring(_: int) -> int:
        opened = (
            open_sqlite(Path(str(empty.engine.url.database)))
            if on_sqlite(empty)
            else (open_postgres(url))
        )
        together.wait()
        ensure_schema(opened)
        worker = add_worker(opened)
        opened.close()
        return worker

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(bring, range(3))) == [1, 2, 3]


def test_a_ledger_of_a_newer_version_is_refused_and_left_alone(
    fresh: Ledger,
) -> None:
    with fresh.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    before = made(fresh)

    with pytest.raises(SchemaMismatch, match=f"has schema 9999, which .*schema {HEAD}") as caught:
        ensure_schema(fresh)
    assert caught.value.hint == "upgrade rendermill, or use another home or database"
    assert made(fresh) == before


def test_a_migration_that_fails_half_way_leaves_nothing(empty: Ledger) -> None:
    with empty.write() as connection:
        connection.exec_driver_sql("CREATE TABLE groups (somebody_elses TEXT)")

    with pytest.raises(LedgerUnavailable, match=r"groups\"? already exists"):
        ensure_schema(empty)
    assert {name.partition(".")[0] for name, _ in made(empty)} == {"groups"}
