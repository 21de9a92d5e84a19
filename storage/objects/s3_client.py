"""The boto3 client of an S3 store: one per process, made when it is first needed."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import Any, Final

from storage.contract.errors import SettingError
from storage.objects.s3_address import Address

_FALLBACK_REGION: Final = "us-east-1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """How patient a client is, and how much it does at once."""

    connections: int = 16  #: kept open; more threads than this wait for each other
    connect_seconds: float = 5.0
    read_seconds: float = 30.0  #: without a single byte
    attempts: int = 3  #: of boto3, within about a second; for lost connections
    patience_seconds: float = 30.0  #: for a server that starts again; then it is an error


class Clients:
    """Hands out the client of the running process.

    Sockets must not be shared with a forked child, so each process makes its own. Making one
    is not safe in two threads at once; using one is.
    """

    def __init__(self, address: Address, options: Options) -> None:
        self._address = address
        self._options = options
        self._lock = threading.Lock()
        self._made: dict[str | None, Any] = {}
        self._made_by = os.getpid()

    def get(self, endpoint: str | None = None) -> Any:
        """The client that talks to `endpoint`, or else to the address's own."""
        endpoint = endpoint or self._address.endpoint
        with self._lock:
            if self._made_by != os.getpid():
                self._made, self._made_by = {}, os.getpid()
            if endpoint not in self._made:
                self._made[endpoint] = _make(self._address, self._options, endpoint)
            return self._made[endpoint]

    def close(self) -> None:
        """Drop all connections; the next use opens new ones."""
        with self._lock:
            for client in self._made.values():
                client.close()
            self._made = {}


def _make(address: Address, options: Options, endpoint: str | None) -> Any:
    try:
        import boto3.session
        from botocore.config import Config
    except ImportError as error:
        raise SettingError(
            "the storage URL names an S3 store, and boto3 is not installed",
            hint="pip install 'rendermill[farm]'",
        ) from error
    session = boto3.session.Session()
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": address.addressing or ("path" if endpoint else "auto")},
        max_pool_connections=options.connections,
        connect_timeout=options.connect_seconds,
        read_timeout=options.read_seconds,
        retries={"mode": "standard", "total_max_attempts": options.attempts},
        # Every put carries its SHA-256; boto3's own CRC32 would come as a trailer, which
        # several S3 servers store as part of the object.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_supported",
        tcp_keepalive=True,
        user_agent_extra="rendermill",
    )
    region = address.region or session.region_name or (_FALLBACK_REGION if endpoint else None)
    return session.client("s3", endpoint_url=endpoint, region_name=region, config=config)
