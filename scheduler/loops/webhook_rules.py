"""What web hooks may be sent where, how they are signed, and when they are tried again. Pure."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from storage.contract.errors import InputError

FIRST_PAUSE_SECONDS: Final = 10.0
ATTEMPTS: Final = 14
"""With pauses that double from ten seconds on, the last attempt is about a day after the first."""

JITTER: Final = 0.2
"""How much of a pause is left to chance, so that many hooks do not come back together."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Clouds hand out a machine's credentials at these; the link-local one is found by its kind.
_METADATA: Final = frozenset(
    ipaddress.ip_address(text)
    for text in ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254")
)
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """An address taken apart."""

    secure: bool
    host: str
    port: int
    path: str  #: with its query

    @property
    def host_header(self) -> str:
        """The host as a request names it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


def parse_target(url: str) -> Target:
    """The target of a web hook that `url` names; `InputError` says why it cannot be one."""
    try:
        return take_apart(url)
    except ValueError as error:
        raise InputError(
            f"the web hook's address cannot be used: {error}",
            hint="it looks like https://host/path; hooks are signed: see RENDERMILL_WEBHOOK_SECRET",
        ) from None


def take_apart(url: str) -> Target:
    """The target that `url` names; `ValueError` says why there is none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError("it is not a URL") from error
    if parts.scheme not in ("http", "https"):
        raise ValueError("it does not start with https:// or http://")
    if "@" in parts.netloc:
        raise ValueError("it holds credentials")
    if not parts.hostname:
        raise ValueError("it names no host")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("it has characters that URLs do not have; write them as %20 and such")
    secure = parts.scheme == "https"
    return Target(
        secure=secure, host=parts.hostname, port=port or (443 if secure else 80), path=path
    )


def why_refused(address: Address) -> str | None:
    """Why nothing is sent to `address` by default; None if it may be.

    Whoever submits a job chooses the address, and the scheduler may reach more than they do.
    """
    address = _embedded(address)
    if address.is_link_local or address in _METADATA:
        return f"{address} may be a cloud's metadata service"
    reserved = address.is_reserved and not address.is_loopback  # ::1 counts as both
    if address.is_multicast or address.is_unspecified or reserved:
        return f"{address} is no address of a server"
    return None


def why_private(address: Address) -> str | None:
    """Why nothing is fetched from `address` by default; None if it is a public one."""
    if not _embedded(address).is_global:
        return f"{address} is a private address"
    return why_refused(address)


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """The signature header's value: HMAC-SHA256 of the timestamp, a dot and the body."""
    message = f"{timestamp}.".encode() + body
    return f"sha256={hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()}"


def next_attempt(attempts: int, now: float, chance: float) -> float | None:
    """When to try again after `attempts` that failed, None for never.

    `chance` is a random number from 0 to 1.
    """
    if attempts >= ATTEMPTS:
        return None
    pause = FIRST_PAUSE_SECONDS * 2.0 ** (attempts - 1)
    return float(now + pause * (1 + JITTER * (chance - 0.5)))


def _embedded(address: Address) -> Address:
    """The IPv4 address inside an IPv6 one, where there is one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
