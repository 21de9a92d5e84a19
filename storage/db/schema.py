"""Bringing a ledger's tables up to this program's version with Alembic.

Opening an up-to-date ledger costs one query: Alembic is imported only when there is work.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from storage.contract.errors import SchemaMismatch
from storage.db.engine import Ledger

HEAD = "0001"
"""The newest migration; a test holds it equal to what Alembic finds."""

_SCRIPTS = Path(__file__).parent / "migrations"


def ensure_schema(ledger: Ledger) -> None:
    """Make or upgrade the tables; safe to repeat, and for several processes at once.

    Raises `SchemaMismatch` if the ledger was made by a newer program.
    """
    with ledger.read() as connection:
        if _revision(connection) == HEAD:
            return
    # The write lock makes a second process wait, and then find nothing left to do.
    with ledger.write() as connection:
        found = _revision(connection)
        if found != HEAD:
            _upgrade(connection, found, ledger.where)


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
            hint="upgrade rendermill, or use another home",
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
