"""Where the parts of a mill are: the environment's words for ledger, broker and object store.

Without any of them everything of one machine lives in its home: the catalog as a SQLite file,
the pictures as files, and no broker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from storage.contract.errors import SettingError

HOME: Final = "RENDERMILL_HOME"
DATABASE_URL: Final = "RENDERMILL_DATABASE_URL"
BROKER_URL: Final = "RENDERMILL_BROKER_URL"
STORAGE_URL: Final = "RENDERMILL_STORAGE_URL"

BROKER_SCHEMES: Final = ("amqp", "amqps", "redis", "rediss")


@dataclass(frozen=True, kw_only=True, slots=True)
class Connections:
    """Where the parts are. None: in the home, and no broker."""

    home: Path
    database_url: str | None = None
    broker_url: str | None = None
    storage_url: str | None = None

    @property
    def is_farm(self) -> bool:
        """Whether workers of other machines may share the ledger."""
        return self.database_url is not None


def read_connections(environ: Mapping[str, str], home: Path) -> Connections:
    """The connections the environment names; raises `SettingError` for what cannot work."""
    connections = Connections(
        home=home,
        database_url=_url(environ, DATABASE_URL),
        broker_url=_url(environ, BROKER_URL),
        storage_url=_url(environ, STORAGE_URL),
    )
    _check_broker(connections)
    _check_storage(connections)
    return connections


def shown(url: str) -> str:
    """A URL for messages: without user, password or parameters."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def _url(environ: Mapping[str, str], name: str) -> str | None:
    value = environ.get(name, "").strip()
    if not value:
        return None
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise SettingError(f"{name} is not a URL", hint="its port must be a number") from None
    if not parts.scheme:
        raise SettingError(f"{name} is not a URL", hint="it must begin with a scheme like amqp://")
    return value


def _check_broker(connections: Connections) -> None:
    url = connections.broker_url
    if url is None:
        return
    if urlsplit(url).scheme not in BROKER_SCHEMES:
        raise SettingError(
            f"{BROKER_URL}: {urlsplit(url).scheme} is not a broker this program knows",
            hint=f"it must begin with one of {', '.join(f'{s}://' for s in BROKER_SCHEMES)}",
        )
    if not connections.is_farm:
        raise SettingError(
            f"{BROKER_URL} is set, but {DATABASE_URL} is not",
            hint="tickets of a broker wake workers that share a ledger; set both, or neither",
        )


def _check_storage(connections: Connections) -> None:
    url = connections.storage_url
    if url is not None and urlsplit(url).scheme not in ("s3", "file"):
        raise SettingError(
            f"{STORAGE_URL}: {urlsplit(url).scheme} is not a store this program knows",
            hint="write it like s3://bucket/prefix?endpoint=https://host, or file:///folder",
        )
