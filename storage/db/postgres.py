"""Opening a ledger on a PostgreSQL server.

The driver is left in autocommit and each transaction is begun here in words, as on SQLite: a
reader gets a snapshot and a writer its bounds in the same message that begins it, so neither
costs a round trip of its own.
"""

from __future__ import annotations

import importlib.util
import time
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection

from storage.contract.errors import LedgerUnavailable, SettingError
from storage.db.clock import ServerClock
from storage.db.ledger import READ_ONLY, Ledger
from storage.db.postgres_errors import translate

OLDEST_SERVER: Final = 140000
"""PostgreSQL 14: what is maintained, and the oldest this is meant to run on."""

_CONNECT_SECONDS: Final = 10
_SILENT_SECONDS: Final = 30
"""After which a peer that answers nothing at all is given up, on both ends."""

_LOCK_SECONDS: Final = 30
_STATEMENT_SECONDS: Final = 600  # bulk rows and migrations take their time
_IDLE_WRITER_SECONDS: Final = 30
"""A process that is stopped within a transaction must not hold rows locked for others."""

_PING_AFTER_SECONDS: Final = 1.0
"""A connection that rested this long is tried before use: the server may have restarted."""

_SESSION: Final = {
    "application_name": "rendermill",
    "lock_timeout": f"{_LOCK_SECONDS}s",
    "statement_timeout": f"{_STATEMENT_SECONDS}s",
    "tcp_keepalives_idle": _SILENT_SECONDS,
    "tcp_keepalives_interval": 10,
    "tcp_keepalives_count": 3,
    "timezone": "UTC",
    "jit": "off",  # compiling a plan takes longer than any query here runs
}
_BEGIN_READ: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_BEGIN_WRITE: Final = (
    "BEGIN ISOLATION LEVEL READ COMMITTED;"
    f" SET LOCAL idle_in_transaction_session_timeout = '{_IDLE_WRITER_SECONDS}s'"
)


def open_postgres(url: str, *, connections: int = 4) -> Ledger:
    """The ledger in the database `url` names: ``postgresql+psycopg://user:secret@host/name``.

    Nothing is connected yet. At most `connections` are held while idle, and twice as many used.
    """
    parsed = _parsed(url)
    if importlib.util.find_spec("psycopg") is None:
        raise SettingError(
            "a ledger on PostgreSQL needs the package psycopg",
            hint="install it: pip install 'rendermill[farm]'",
        )
    engine = sa.create_engine(
        parsed,
        connect_args={
            "autocommit": True,
            "connect_timeout": _CONNECT_SECONDS,
            "keepalives_idle": _SILENT_SECONDS,
            "tcp_user_timeout": _SILENT_SECONDS * 1000,
            "options": _options(parsed),
        },
        pool_size=connections,
        max_overflow=connections,
        pool_use_lifo=True,
        use_native_hstore=False,  # spares every new process a query
    )
    event.listen(engine, "connect", _check_version)
    event.listen(engine, "checkin", _note_rest)
    event.listen(engine, "checkout", _ping_if_rested)
    event.listen(engine, "begin", _begin)
    where = _where(parsed)
    return Ledger(engine, where=where, translate=translate, clock=ServerClock(engine))


def _parsed(url: str) -> URL:
    """The URL with its driver named; what is no URL of PostgreSQL is refused."""
    hint = "write it like postgresql+psycopg://user:password@host:5432/rendermill"
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):  # its text is not repeated: it holds the password
        raise SettingError("RENDERMILL_DATABASE_URL is not a URL", hint=hint) from None
    if parsed.drivername not in {"postgresql+psycopg", "postgresql", "postgres"}:
        raise SettingError(
            f"RENDERMILL_DATABASE_URL: {parsed.drivername} is not a database this program knows",
            hint=hint,
        )
    if not parsed.database:
        raise SettingError("RENDERMILL_DATABASE_URL names no database", hint=hint)
    return parsed.set(drivername="postgresql+psycopg")


def _options(url: URL) -> str:
    """What every session is started with, after what the URL itself asks for."""
    own = " ".join(f"-c {name}={value}" for name, value in _SESSION.items())
    given = url.query.get("options", "")
    return f"{own} {given if isinstance(given, str) else ' '.join(given)}".strip()


def _where(url: URL) -> str:
    """The database for messages, without user or password."""
    port = f":{url.port}" if url.port else ""
    return f"database {url.database} on {url.host or 'the local socket'}{port}"


def _check_version(driver_connection: Any, _record: Any) -> None:
    found = driver_connection.info.server_version
    if found < OLDEST_SERVER:
        driver_connection.close()
        raise LedgerUnavailable(
            f"the server is PostgreSQL {found // 10000}; this program needs"
            f" {OLDEST_SERVER // 10000} or newer",
            hint="upgrade the server",
        )


def _note_rest(_driver_connection: Any, record: Any) -> None:
    record.info["rests_since"] = time.monotonic()


def _ping_if_rested(driver_connection: Any, record: Any, _proxy: Any) -> None:
    since = record.info.get("rests_since")
    if since is None or time.monotonic() - since < _PING_AFTER_SECONDS:
        return
    try:
        driver_connection.execute("SELECT 1", prepare=False)
    except driver_connection.Error as error:
        raise sa.exc.DisconnectionError from error  # the pool connects anew


def _begin(connection: Connection) -> None:
    read_only = connection.get_execution_options().get(READ_ONLY, False)
    statement = _BEGIN_READ if read_only else _BEGIN_WRITE
    driver_connection: Any = connection.connection.driver_connection
    try:
        driver_connection.execute(statement, prepare=False)
    except driver_connection.Error as error:
        gone = driver_connection.closed
        if gone:
            connection.invalidate(error)
        raise sa.exc.OperationalError(
            statement, None, error, connection_invalidated=gone
        ) from error
