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

DATABASE_SCHEMES: Final = ("postgresql+psycopg", "postgresql", "postgres")
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


def without_farm(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that is to work in its home alone."""
    farm = (DATABASE_URL, BROKER_URL, STORAGE_URL)
    return {name: value for name, value in environ.items() if name not in farm}


def read_connections(environ: Mapping[str, str], home: Path) -> Connections:
    """The connections the environment names; raises `SettingError` for what cannot work."""
    connections = Connections(
        home=home,
        database_url=_url(environ, DATABASE_URL),
        broker_url=_url(environ, BROKER_URL),
        storage_url=_url(environ, STORAGE_URL),
    )
    _check_database(connections)
    _check_broker(connections)
    _check_storage(connections)
    return connections


def shown(url: str) -> str:
    """A URL for messages: without user, password or parameters."""
    if not url:
        return ""
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
    except ValueError:  # its text is not repeated: it may hold a password
        raise SettingError(f"{name} is not a URL", hint=_UNREADABLE) from None
    if not parts.scheme:
        raise SettingError(f"{name} is not a URL", hint=f"write it like {_EXAMPLES[name]}")
    if name != STORAGE_URL and "@" not in parts.netloc and "@" in value:
        # A sign within the password ended the host: the rest of it would be shown as a path.
        raise SettingError(f"{name} is not a URL", hint=_UNREADABLE)
    return value


_UNREADABLE: Final = (
    "its port must be a number, and signs like / # ? @ in a user or password must be"
    " percent-encoded (%2F %23 %3F %40)"
)
_EXAMPLES: Final = {
    DATABASE_URL: "postgresql+psycopg://user:password@host:5432/rendermill",
    BROKER_URL: "amqp://user:password@host:5672// or redis://host:6379/0",
    STORAGE_URL: "s3://bucket/prefix?endpoint=https://host, or file:///folder",
}


def _check_database(connections: Connections) -> None:
    url = connections.database_url
    if url is not None and urlsplit(url).scheme not in DATABASE_SCHEMES:
        raise SettingError(
            f"{DATABASE_URL}: {urlsplit(url).scheme} is not a database this program knows",
            hint=f"write it like {_EXAMPLES[DATABASE_URL]}, or leave it away on one machine",
        )


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
            hint=f"write it like {_EXAMPLES[STORAGE_URL]}",
        )
    if url is not None and urlsplit(url).scheme == "file" and urlsplit(url).netloc:
        raise SettingError(
            f"{STORAGE_URL}: {urlsplit(url).netloc} would be a host, and files have none",
            hint="write three slashes: file:///folder",
        )
