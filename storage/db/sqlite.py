"""Opening a ledger in a SQLite file.

A write transaction takes the write lock at once (``BEGIN IMMEDIATE``). A deferred one that
reads first and writes later fails with SQLITE_BUSY as soon as two processes do it, in spite of
any timeout: the busy handler is not asked when a lock is upgraded.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection

from storage.contract.errors import LedgerUnavailable
from storage.db.ledger import READ_ONLY, Ledger

_BUSY_SECONDS = 30.0


def open_sqlite(path: Path) -> Ledger:
    """The ledger in the SQLite file `path`, which need not exist yet; its folder must."""
    engine = sa.create_engine(
        f"sqlite:///{path}",
        connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False},
    )
    event.listen(engine, "connect", _prepare_connection)
    event.listen(engine, "begin", _begin)
    return Ledger(engine, where=str(path), translate=_translate)


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
    read_only = connection.get_execution_options().get(READ_ONLY, False)
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
