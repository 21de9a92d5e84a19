"""One attempt to deliver a web hook: one POST, no redirects, ten seconds in all."""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from scheduler.loops.guarded import AddressRefused, connected
from scheduler.loops.webhook_rules import Address, Target, parse_target, sign, why_refused
from storage.contract.errors import InputError, SettingError
from storage.db.deliveries import Delivery

SECRET: Final = "RENDERMILL_WEBHOOK_SECRET"  # noqa: S105 - the variable's name
ANY_ADDRESS: Final = "RENDERMILL_WEBHOOK_ANY_ADDRESS"
TIMEOUT_SECONDS: Final = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class HookSettings:
    """How hooks are sent."""

    secret: str | None = field(default=None, repr=False)  #: None: they are not signed
    any_address: bool = False  #: also to link-local and metadata addresses
    timeout_seconds: float = TIMEOUT_SECONDS


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """Why an attempt failed."""

    text: str
    final: bool = False  #: trying again cannot help


def read_hook_settings(environ: Mapping[str, str]) -> HookSettings:
    """The environment's settings; `SettingError` names a bad one."""
    any_address = environ.get(ANY_ADDRESS, "").strip()
    if any_address not in ("", "0", "1"):
        raise SettingError(f"{ANY_ADDRESS} is 1 or 0, not {any_address!r}")
    return HookSettings(secret=environ.get(SECRET) or None, any_address=any_address == "1")


def post(delivery: Delivery, settings: HookSettings) -> Fault | None:
    """Send it; None if the receiver took it (any 2xx answer)."""
    try:
        target = parse_target(delivery.url)
        judge = _any if settings.any_address else why_refused
        deadline = time.monotonic() + settings.timeout_seconds
        with connected(target, judge, deadline=deadline) as connection:
            return _judged(_exchange(connection, target, delivery, settings))
    except InputError as error:
        return Fault(text=error.message, final=True)
    except UnicodeError:
        return Fault(text="the address holds no name of a host", final=True)
    except AddressRefused as refused:
        return Fault(text=f"nothing is sent to {target.host}: {refused}")
    except (OSError, http.client.HTTPException) as error:
        return Fault(text=_words(error, settings))


def _words(error: Exception, settings: HookSettings) -> str:
    match error:
        case TimeoutError():
            return f"no answer within {settings.timeout_seconds:g} s"
        case ssl.SSLError():
            return f"no secure connection: {error.reason or error}"
    return f"the connection failed: {str(error) or type(error).__name__}"


def _exchange(
    connection: http.client.HTTPConnection,
    target: Target,
    delivery: Delivery,
    settings: HookSettings,
) -> int:
    body = delivery.body.encode()
    connection.putrequest("POST", target.path, skip_host=True, skip_accept_encoding=True)
    for name, value in _headers(target, delivery, body, settings.secret).items():
        connection.putheader(name, value)
    connection.endheaders(body)
    return connection.getresponse().status


def _headers(target: Target, delivery: Delivery, body: bytes, secret: str | None) -> dict[str, str]:
    timestamp = int(time.time())
    headers = {
        "Host": target.host_header,
        "User-Agent": "Rendermill",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        "X-Rendermill-Event": delivery.event,
        "X-Rendermill-Delivery": str(delivery.id),
        "X-Rendermill-Timestamp": str(timestamp),
    }
    if secret is not None:
        headers["X-Rendermill-Signature"] = sign(secret, timestamp, body)
    return headers


def _judged(status: int) -> Fault | None:
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return Fault(text=f"answered {status}: redirects are not followed")
    return Fault(text=f"answered {status}", final=status == http.HTTPStatus.GONE)


def _any(_address: Address) -> None:
    return None
