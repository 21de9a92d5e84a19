"""Opening the ledger, its two kinds of transaction, and its driver's errors in our words."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from storage.contract.errors import LeaseLost, LedgerUnavailable
from storage.db import jobs, sqlite, workers
from storage.db.engine import Ledger, open_sqlite
from storage.db.tables import jobs as jobs_table
from storage.db.tables import workers as workers_table
from storage.testing.factories import add_groups, add_worker

THREADS = 4


@pytest.fixture
def ledger(sqlite_ledger: Ledger) -> Ledger:
    """The ledger in a file."""
    return sqlite_ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger's file lies."""
    return tmp_path / "catalog.db"


@pytest.fixture
def impatient(ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """A second opening of the ledger that does not wait for locks."""
    monkeypatch.setattr(sqlite, "_BUSY_SECONDS", 0.0)
    opened = open_sqlite(path)
    yield opened
    opened.close()


def worker_count(ledger: Ledger) -> int:
    with ledger.read() as connection:
        return connection.execute(
            sa.select(sa.func.count()).select_from(workers_table)
        ).scalar_one()


def test_a_write_is_there_for_other_processes_once_its_block_has_ended(
    ledger: Ledger, path: Path
) -> None:
    add_worker(ledger)
    other = open_sqlite(path)
    assert worker_count(other) == 1
    other.close()


@pytest.mark.parametrize("error", [LeaseLost("mine"), KeyError("k"), KeyboardInterrupt()])
def test_a_write_that_raises_leaves_no_trace_and_its_error_is_not_touched(
    ledger: Ledger, error: BaseException
) -> None:
    def interrupted() -> None:
        with ledger.write() as connection:
            connection.execute(sa.delete(workers_table))
            raise error

    add_worker(ledger)
    with pytest.raises(type(error)) as caught:
        interrupted()
    assert caught.value is error
    assert worker_count(ledger) == 1


def test_a_read_does_not_wait_for_a_writer(ledger: Ledger, impatient: Ledger) -> None:
    add_worker(ledger)
    with ledger.write() as connection:
        connection.execute(sa.delete(workers_table))
        assert worker_count(impatient) == 1
    assert worker_count(impatient) == 0


def test_what_a_read_saw_first_it_sees_until_its_end(ledger: Ledger, impatient: Ledger) -> None:
    with ledger.read() as connection:
        assert list(workers.present(connection)) == []
        add_worker(impatient)
        assert list(workers.present(connection)) == []
    assert worker_count(ledger) == 1


def test_writers_that_read_first_wait_for_each_other_and_lose_nothing(ledger: Ledger) -> None:
    """A deferred transaction would fail here with "database is locked" at once."""
    job = add_groups(ledger, (1, 1))
    together = threading.Barrier(THREADS)

    def count_up(_: int) -> None:
        together.wait()
        for _ in range(25):
            with ledger.write() as connection:
                read = jobs.get(connection, job.id).priority
                connection.execute(sa.update(jobs_table).values(priority=read + 1))

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(count_up, range(THREADS)))
    with ledger.read() as connection:
        assert jobs.get(connection, job.id).priority == THREADS * 25


def test_many_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    together = threading.Barrier(THREADS)

    def open_and_read(path: Path) -> int:
        opened = open_sqlite(path)
        together.wait()
        with opened.read() as connection:
            found = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one()
        opened.close()
        return int(found)

    with ThreadPoolExecutor(THREADS) as pool:
        for attempt in range(10):
            paths = [tmp_path / f"{attempt}.db"] * THREADS
            assert list(pool.map(open_and_read, paths)) == [0] * THREADS


@pytest.mark.parametrize(
    ("pragma", "value"), [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)]
)
def test_commits_survive_a_power_cut_and_references_are_checked(
    ledger: Ledger, pragma: str, value: object
) -> None:
    with ledger.read() as connection:
        assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() == value


def test_a_missing_folder_is_said_and_how_to_choose_another(tmp_path: Path) -> None:
    opened = open_sqlite(tmp_path / "missing" / "catalog.db")
    with pytest.raises(LedgerUnavailable, match=r"catalog\.db: it cannot be opened") as caught:
        worker_count(opened)
    assert "--home" in str(caught.value.hint)


def test_a_file_that_is_no_database_is_said(path: Path) -> None:
    path.write_text("not a database, " * 100)
    with pytest.raises(LedgerUnavailable, match="it is not a SQLite database"):
        worker_count(open_sqlite(path))


def test_a_damaged_file_is_said_and_that_the_pictures_are_safe(ledger: Ledger, path: Path) -> None:
    add_worker(ledger)
    ledger.close()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(LedgerUnavailable, match="it is damaged") as caught:
        worker_count(ledger)
    assert "the pictures are not touched" in str(caught.value.hint)


def test_a_lock_held_too_long_is_said(ledger: Ledger, impatient: Ledger) -> None:
    with ledger.write(), pytest.raises(LedgerUnavailable, match="another process kept it locked"):
        add_worker(impatient)


def test_a_full_disk_is_said_and_nothing_committed_is_lost(ledger: Ledger) -> None:
    columns = [column for column in workers_table.c if column.name != "id"]
    twice = sa.insert(workers_table).from_select(columns, sa.select(*columns))

    def fill() -> None:
        with ledger.write() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
            for _ in range(20):  # each time twice as many workers
                connection.execute(twice)

    add_worker(ledger)
    with pytest.raises(LedgerUnavailable, match="the disk is full") as caught:
        fill()
    assert "nothing that was committed is lost" in str(caught.value.hint)
    assert worker_count(ledger) == 1


def test_a_file_that_may_not_be_written_is_said(ledger: Ledger) -> None:
    def write() -> None:
        with ledger.write() as connection:
            connection.exec_driver_sql("PRAGMA query_only=ON")
            connection.execute(sa.delete(workers_table))

    with pytest.raises(LedgerUnavailable, match="it may not be written"):
        write()


def test_any_other_error_of_the_driver_names_the_file_and_what_it_said(
    ledger: Ledger, path: Path
) -> None:
    def ask() -> None:
        with ledger.read() as connection:
            connection.exec_driver_sql("SELECT nonsense")

    with pytest.raises(LedgerUnavailable) as caught:
        ask()
    assert str(caught.value) == f"{path}: no such column: nonsense"
    assert isinstance(caught.value.__cause__, sa.exc.DBAPIError)
