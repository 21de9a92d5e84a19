"""Bringing a ledger's tables up to this program's version with Alembic.

Opening an up-to-date ledger costs one query: Alembic is imported only when there is work.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.contract.errors import SchemaMismatch
from storage.db.ledger import Ledger

HEAD = "0007"
"""The newest migration; a test holds it equal to what Alembic finds."""

_LOCK = 0x52454E444D494C4C
"""A number of our own among the advisory locks of a PostgreSQL database."""

_SCRIPTS = Path(__file__).parent / "migrations"


def ensure_schema(ledger: Ledger) -> None:
    """Make or upgrade the tables; safe to repeat, and for several processes at once.

    Raises `SchemaMismatch` if the ledger was made by a newer program.
    """
    with ledger.read() as connection:
        if _revision(connection) == HEAD:
            return
    # A lock makes a second process wait, and then find nothing left to do. On SQLite every
    # writer holds one.
    with ledger.write() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        found = _revision(connection)
        if found != HEAD:
            _upgrade(connection, found, ledger.where)


def check_schema(ledger: Ledger) -> None:
    """Raise `SchemaMismatch` unless the tables are at this program's version; change nothing."""
    with ledger.read() as connection:
        found = _revision(connection)
    if found != HEAD:
        told = f"has schema {found}" if found else "has no tables of rendermill"
        raise SchemaMismatch(
            f"{ledger.where} {told}; this version needs schema {HEAD}",
            hint="bring it up to date: rendermill init (with the newest version of the fleet)",
        )


def _revision(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(connection: Connection, found: str | None, where: str) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise SchemaMismatch(
            f"{where} has schema {found}, which this version (schema {HEAD}) does not know",
            hint="upgrade rendermill, or use another home or database",
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
