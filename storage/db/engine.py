"""Opening the ledger, and the two kinds of transaction on it.

A write transaction on SQLite takes the write lock at once (``BEGIN IMMEDIATE``). A deferred
one that reads first and writes later fails with SQLITE_BUSY as soon as two processes do it,
in spite of any timeout: the busy handler is not asked when a lock is upgraded.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from storage.contract.errors import LedgerUnavailable, RendermillError

_READ_ONLY = "rendermill_read_only"
_BUSY_SECONDS = 30.0


class Ledger:
    """A database that holds jobs, tasks, leases and images.

    `read` and `write` give a connection inside one transaction, which is committed when the
    block ends and rolled back when it raises. Errors of the driver become `LedgerUnavailable`.
    """

    def __init__(self, engine: Engine, *, where: str) -> None:
        self.engine = engine
        self.where = where
        self._reader = engine.execution_options(**{_READ_ONLY: True})

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A snapshot: what it reads is consistent, and it never waits for a writer."""
        with self._translated(), self._reader.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """The right to change rows; waits for other writers."""
        with self._translated(), self.engine.begin() as connection:
            yield connection

    def now(self) -> float:
        """The time leases are measured by, in seconds since the epoch.

        All processes on one SQLite file share one machine's clock.
        """
        return time.time()

    def close(self) -> None:
        """Drop all connections."""
        self.engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except RendermillError:
            raise
        except sa.exc.IntegrityError:
            raise  # not the database's condition but our mistake
        except sa.exc.DBAPIError as error:
            raise _translate(error, self.where) from error


def open_sqlite(path: Path) -> Ledger:
    """The ledger in the SQLite file `path`, which need not exist yet; its folder must."""
    engine = sa.create_engine(
        f"sqlite:///{path}",
        connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False},
    )
    event.listen(engine, "connect", _prepare_connection)
    event.listen(engine, "begin", _begin)
    return Ledger(engine, where=str(path))


def _prepare_connection(driver_connection: Any, _record: Any) -> None:
    driver_connection.isolation_level = None  # SQLAlchemy's "begin" event starts transactions
    # SQLite's own knows the letters of ASCII only.
    driver_connection.create_function("lower", 1, _lower, deterministic=True)
    cursor = driver_connection.cursor()
    _use_write_ahead_log(cursor)
    for pragma in (
        # FULL: a commit must survive a power cut, or a picture could lose its row. One
        # fsync a second is what it costs, since images are recorded in bulk.
        "synchronous=FULL",
        "foreign_keys=ON",
        "temp_store=MEMORY",
        "journal_size_limit=67108864",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _lower(text: Any) -> Any:
    return text.lower() if isinstance(text, str) else text


def _use_write_ahead_log(cursor: sqlite3.Cursor) -> None:
    """Switch a new file to WAL, which stays so for good.

    The busy handler is not asked here either: processes that open one new file at once would
    fail, so this waits by itself.
    """
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin(connection: Connection) -> None:
    read_only = connection.get_execution_options().get(_READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


_MEANINGS = (
    ("disk is full", "the disk is full", "free some space; nothing that was committed is lost"),
    ("readonly database", "it may not be written", "check the permissions of the file"),
    (
        "unable to open database file",
        "it cannot be opened",
        "check that its folder exists and may be written, or choose another with --home",
    ),
    ("locked", "another process kept it locked for too long", "try again"),
    ("file is not a database", "it is not a SQLite database", "choose another --home"),
    ("malformed", "it is damaged", "restore it from a backup; the pictures are not touched"),
    ("disk i/o error", "the disk reports errors", "check the disk"),
)


def _translate(error: sa.exc.DBAPIError, where: str) -> LedgerUnavailable:
    said = str(error.orig)
    for mark, meaning, hint in _MEANINGS:
        if mark in said.casefold():
            return LedgerUnavailable(f"{where}: {meaning} ({said})", hint=hint)
    return LedgerUnavailable(f"{where}: {said}")
