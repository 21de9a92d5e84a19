"""What PostgreSQL and its driver say, in words that tell what to do next."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from storage.contract.errors import LedgerUnavailable

Meaning = tuple[str, str]  # what is wrong, what to do

_FULL: Final = ("the server's disk is full", "free some space; nothing that was committed is lost")
_CROWDED: Final = (
    "the server has no connection left",
    "raise max_connections, or put a pooler such as PgBouncer before it",
)
_STOPPING: Final = ("the server is shutting down or starting", "try again when it is up")
_REFUSED: Final = ("nothing answers there", "start the server, or check host and port")
_PASSWORD: Final = ("the password or user is wrong", "check RENDERMILL_DATABASE_URL")
_NO_DATABASE: Final = ("there is no such database", "create it: createdb, as the server's admin")
_RIGHTS: Final = ("this user has not the rights needed", "make the user the database's owner")
_TABLES: Final = ("its tables are missing or of another version", "run: rendermill init")
_CUT: Final = ("the connection was cut", "try again; check server and network if it goes on")

_BY_STATE: Final[dict[str, Meaning]] = {
    "53100": _FULL,
    "53200": ("the server is out of memory", "give it more, or try again"),
    "53300": _CROWDED,
    "25006": (
        "the server takes no changes (a standby, or default_transaction_read_only)",
        "point RENDERMILL_DATABASE_URL at the primary",
    ),
    "57P01": _STOPPING,
    "57P02": _STOPPING,
    "57P03": _STOPPING,
    "57P05": _CUT,
    "25P03": ("this process rested too long within a transaction and was cut off", "try again"),
    "57014": ("a statement took too long", "try again; look for other load on the server"),
    "55P03": ("another process kept rows locked for too long", "try again"),
    "40P01": ("two processes waited for each other", "try again"),
    "40001": ("another process changed the same rows", "try again"),
    "28P01": _PASSWORD,
    "28000": _PASSWORD,
    "3D000": _NO_DATABASE,
    "42501": _RIGHTS,
    "42P01": _TABLES,
    "42703": _TABLES,
}

# The driver gives no code for what happens before a session has begun.
_BY_TEXT: Final[tuple[tuple[str, Meaning], ...]] = (
    ("password authentication failed", _PASSWORD),
    ("no password supplied", _PASSWORD),
    ("no pg_hba.conf entry", ("the server lets nobody in from here", "see its pg_hba.conf")),
    ("role", _PASSWORD),
    ("does not exist", _NO_DATABASE),
    ("too many clients", _CROWDED),
    ("remaining connection slots", _CROWDED),
    ("starting up", _STOPPING),
    ("shutting down", _STOPPING),
    ("in recovery mode", _STOPPING),
    ("connection refused", _REFUSED),
    ("no such file or directory", _REFUSED),
    (
        "could not translate host name",
        ("there is no such host", "check the host in RENDERMILL_DATABASE_URL"),
    ),
    ("name or service not known", ("there is no such host", "check RENDERMILL_DATABASE_URL")),
    ("failed to resolve host", ("there is no such host", "check RENDERMILL_DATABASE_URL")),
    ("timeout expired", ("the server does not answer", "check host, port and firewall")),
    ("connection timeout", ("the server does not answer", "check host, port and firewall")),
    ("ssl", ("no secured connection could be made", "check sslmode in RENDERMILL_DATABASE_URL")),
    ("server closed the connection", _CUT),
    ("connection is lost", _CUT),
    ("connection is closed", _CUT),
    ("connection is bad", _CUT),
    ("could not receive data", _CUT),
    ("could not send data", _CUT),
)


def translate(error: sa.exc.DBAPIError, where: str) -> LedgerUnavailable:
    """The error as one of ours; `where` names the database without its password."""
    said = _first_line(error)
    meaning = _BY_STATE.get(getattr(error.orig, "sqlstate", None) or "") or _by_text(said)
    if meaning is None:
        return LedgerUnavailable(f"{where}: {said}")
    return LedgerUnavailable(f"{where}: {meaning[0]} ({said})", hint=meaning[1])


def _by_text(said: str) -> Meaning | None:
    folded = said.casefold()
    return next((meaning for mark, meaning in _BY_TEXT if mark in folded), None)


def _first_line(error: sa.exc.DBAPIError) -> str:
    """The driver's message without the statement and position it may add."""
    lines = [line.strip() for line in str(error.orig).splitlines() if line.strip()]
    return lines[0] if lines else type(error.orig).__name__
