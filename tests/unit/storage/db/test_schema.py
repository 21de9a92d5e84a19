"""Migrations and tables agree, and a ledger is brought up to date once and safely."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
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
from storage.db import migrations, schema
from storage.db.engine import Ledger, open_sqlite
from storage.db.schema import HEAD, ensure_schema
from storage.db.tables import metadata
from storage.testing.factories import add_worker

Everything = Callable[[], dict[str, list[Any]]]


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger without tables."""
    opened = open_sqlite(tmp_path / "empty.db")
    yield opened
    opened.close()


@pytest.fixture
def alembic() -> Config:
    """Alembic's settings, with our migrations."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    return config


def made(ledger: Ledger) -> set[tuple[str, str]]:
    """Tables and indexes, with the columns, constraints and conditions they were made with."""
    inspector_rows = "SELECT name, sql FROM sqlite_master WHERE sql NOT NULL"
    with ledger.read() as connection:
        found = connection.exec_driver_sql(inspector_rows).all()
    return {
        (name, ",".join(sorted(" ".join(text.replace("(", " ( ").split()).split(","))))
        for name, text in found
        if not name.startswith(("sqlite_", "alembic_"))
    }


def test_migrations_make_what_the_tables_say(ledger: Ledger) -> None:
    with ledger.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_migrations_and_tables_agree_in_what_alembic_does_not_compare(
    ledger: Ledger, empty: Ledger
) -> None:
    with empty.write() as connection:
        metadata.create_all(connection)

    def indexes(found: Ledger) -> set[str]:
        return {text.replace('"', "") for name, text in made(found) if name.startswith("ix_")}

    assert indexes(ledger) == indexes(empty)
    autoincrement, without_rowid = (
        {name for name, text in made(ledger) if words in text}
        for words in ("AUTOINCREMENT", "WITHOUT ROWID")
    )
    assert autoincrement == {name for name, text in made(empty) if "AUTOINCREMENT" in text}
    assert without_rowid == {name for name, text in made(empty) if "WITHOUT ROWID" in text}
    assert autoincrement >= {"jobs", "tasks", "workers"}


def test_head_is_what_alembic_finds(alembic: Config) -> None:
    assert ScriptDirectory.from_config(alembic).get_heads() == [HEAD]


def test_a_downgrade_leaves_nothing_and_an_upgrade_makes_all_again(
    ledger: Ledger, alembic: Config
) -> None:
    before = made(ledger)
    with ledger.write() as connection:
        alembic.attributes["connection"] = connection
        command.downgrade(alembic, "base")
    assert made(ledger) == set()

    ensure_schema(ledger)
    assert made(ledger) == before


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


def test_many_may_bring_a_new_ledger_up_to_date_at_once(tmp_path: Path) -> None:
    together = threading.Barrier(3)

    def bring(_: int) -> int:
        opened = open_sqlite(tmp_path / "new.db")
        together.wait()
        ensure_schema(opened)
        worker = add_worker(opened)
        opened.close()
        return worker

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(bring, range(3))) == [1, 2, 3]


def test_a_ledger_of_a_newer_version_is_refused_and_left_alone(
    ledger: Ledger, everything: Everything
) -> None:
    add_worker(ledger)
    with ledger.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    before = everything()

    with pytest.raises(SchemaMismatch, match=f"has schema 9999, which .*schema {HEAD}") as caught:
        ensure_schema(ledger)
    assert caught.value.hint == "upgrade rendermill, or use another home or database"
    assert everything() == before


def test_a_migration_that_fails_half_way_leaves_nothing(empty: Ledger, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "empty.db")) as raw:
        raw.execute("CREATE TABLE groups (somebody_elses TEXT)")

    with pytest.raises(LedgerUnavailable, match="table groups already exists"):
        ensure_schema(empty)
    assert {name for name, _ in made(empty)} == {"groups"}
