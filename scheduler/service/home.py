"""Opening the home of one machine: its catalog and its pictures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from storage.contract.errors import LedgerUnavailable, NotFoundError
from storage.db.engine import Ledger, open_sqlite
from storage.db.schema import ensure_schema
from storage.home import CATALOG
from storage.objects.folder import FolderStore


@dataclass(frozen=True, kw_only=True, slots=True)
class Home:
    """An open home."""

    path: Path
    ledger: Ledger
    store: FolderStore


@contextmanager
def open_home(path: Path, *, create: bool = False) -> Iterator[Home]:
    """The home at `path`; with `create` it is made if there is none, else `NotFoundError`."""
    catalog = path / CATALOG
    if create:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerUnavailable(
                f"cannot make the home {path}: {error.strerror}",
                hint="choose another folder with --home or RENDERMILL_HOME",
            ) from error
    elif not catalog.exists():
        raise NotFoundError(
            f"there is no catalog in {path}",
            hint="render something first, or name the home with --home or RENDERMILL_HOME",
        )
    ledger = open_sqlite(catalog)
    try:
        ensure_schema(ledger)
        yield Home(path=path, ledger=ledger, store=FolderStore(path))
    finally:
        ledger.close()
