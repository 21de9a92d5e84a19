"""Opening the parts of a mill from where its settings say they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote, urlsplit

from storage.contract.errors import LedgerUnavailable, NotFoundError, SettingError
from storage.db.engine import Ledger, open_postgres, open_sqlite
from storage.db.schema import check_schema, ensure_schema
from storage.home import CATALOG
from storage.objects.folder import FolderStore
from storage.ports import ObjectStore
from storage.settings import BROKER_URL, Connections

if TYPE_CHECKING:
    from storage.broker.tickets import Tickets


@dataclass(frozen=True, kw_only=True, slots=True)
class Mill:
    """An open ledger and object store, and where they are."""

    connections: Connections
    ledger: Ledger
    store: ObjectStore

    @property
    def home(self) -> Path:
        """The folder of this machine's own files."""
        return self.connections.home

    def close(self) -> None:
        """Drop all connections; also when a ``with`` block ends."""
        self.store.close()
        self.ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()


def open_ledger(connections: Connections) -> Ledger:
    """The ledger; nothing is connected or made yet."""
    if connections.database_url is not None:
        return open_postgres(connections.database_url)
    return open_sqlite(connections.home / CATALOG)


def open_store(connections: Connections, *, threads: int = 4) -> ObjectStore:
    """The object store, for use by up to `threads` threads at once."""
    url = connections.storage_url
    if url is None:
        return FolderStore(connections.home)
    if urlsplit(url).scheme == "file":
        return FolderStore(Path(unquote(urlsplit(url).path)))
    from storage.objects.s3 import open_s3
    from storage.objects.s3_client import Options

    return open_s3(url, Options(connections=threads))


def open_tickets(broker_url: str) -> Tickets:
    """The broker's tickets; nothing is connected yet."""
    try:
        from storage.broker.tickets import Tickets
    except ImportError as error:
        raise SettingError(
            f"{BROKER_URL} is set, but a broker needs the package {error.name}",
            hint="install it: pip install 'rendermill[farm]'",
        ) from error
    return Tickets(broker_url)


def open_mill(connections: Connections, *, create: bool = False, threads: int = 4) -> Mill:
    """The mill with its tables at this program's version.

    A home's catalog is made with `create` and upgraded when needed; without a catalog it is a
    `NotFoundError`. A shared database is changed by ``rendermill init`` alone.
    """
    if not connections.is_farm:
        _prepare_home(connections.home, create=create)
    ledger = open_ledger(connections)
    try:
        if connections.is_farm:
            check_schema(ledger)
        else:
            ensure_schema(ledger)
        store = open_store(connections, threads=threads)
    except BaseException:
        ledger.close()
        raise
    return Mill(connections=connections, ledger=ledger, store=store)


def _prepare_home(home: Path, *, create: bool) -> None:
    if create:
        try:
            home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerUnavailable(
                f"cannot make the home {home}: {error.strerror}",
                hint="choose another folder with --home or RENDERMILL_HOME",
            ) from error
    elif not (home / CATALOG).exists():
        raise NotFoundError(
            f"there is no catalog in {home}",
            hint="render something first, or name the home with --home or RENDERMILL_HOME",
        )
