"""Fetching a picture from a URL: bounded in bytes and time, and only from public addresses.

A manifest may come from anywhere, and this machine may reach more than whoever wrote it. So each
address is judged before it is connected to, for each redirect anew.
"""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin

from scheduler.loops.guarded import AddressRefused, connected
from scheduler.loops.webhook_rules import Address, Target, take_apart, why_private
from scheduler.manifest.limits import exceeded

REDIRECTS: Final = 3
_BLOCK: Final = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchRules:
    """What may be fetched."""

    max_bytes: int
    seconds: float  #: for all of it, redirects included
    any_address: bool = False  #: also from private, link-local and metadata addresses


def fetch(url: str, rules: FetchRules) -> bytes:
    """What lies at `url`; `ValueError` says why it cannot be had."""
    return b"".join(blocks(url, rules))


def blocks(url: str, rules: FetchRules) -> Iterator[bytes]:
    """The same, block by block; the connection ends with the iterator."""
    deadline = time.monotonic() + rules.seconds
    try:
        for _ in range(REDIRECTS + 1):
            with _answer(take_apart(url), rules, deadline) as answer:
                if answer.status in (301, 302, 303, 307, 308):
                    url = urljoin(url, answer.headers.get("Location") or "")
                    continue
                if answer.status != http.HTTPStatus.OK:
                    raise ValueError(f"answered {answer.status} {answer.reason}".strip())
                yield from _body(answer, rules)
                return
        raise ValueError(f"leads from one address to the next more than {REDIRECTS} times")
    except AddressRefused as refused:
        raise ValueError(
            f"is not fetched: {refused}; RENDERMILL_URLS_ANY_ADDRESS=1 allows such"
        ) from None
    except TimeoutError:
        raise ValueError(
            f"was not fetched within {rules.seconds:g} s (RENDERMILL_MAX_PICTURE_SECONDS)"
        ) from None
    except UnicodeError:
        raise ValueError("holds no name of a host") from None
    except ssl.SSLError as error:
        raise ValueError(f"has no secure connection: {error.reason or error}") from None
    except (OSError, http.client.HTTPException) as error:
        said = str(error) or type(error).__name__
        raise ValueError(f"cannot be fetched: {said}") from None


def _body(answer: http.client.HTTPResponse, rules: FetchRules) -> Iterator[bytes]:
    said = answer.length
    if said is not None and said > rules.max_bytes:
        raise ValueError(exceeded(f"has {said:,} bytes", rules.max_bytes, "max_picture_bytes"))
    size = 0
    while block := answer.read1(_BLOCK):
        size += len(block)
        if size > rules.max_bytes:
            raise ValueError(exceeded("is too large", rules.max_bytes, "max_picture_bytes"))
        yield block
    if said is not None and size < said:
        raise ValueError(f"was cut off after {size:,} of {said:,} bytes")


@contextmanager
def _answer(
    target: Target, rules: FetchRules, deadline: float
) -> Iterator[http.client.HTTPResponse]:
    """The answer to a GET."""
    judge = _any if rules.any_address else why_private
    with connected(target, judge, deadline=deadline) as connection:
        connection.putrequest("GET", target.path, skip_host=True, skip_accept_encoding=True)
        for name, value in (
            ("Host", target.host_header),
            ("User-Agent", "Rendermill"),
            ("Accept", "image/*"),
            ("Connection", "close"),
        ):
            connection.putheader(name, value)
        connection.endheaders()
        yield connection.getresponse()


def _any(_address: Address) -> None:
    return None
