"""A connection to where somebody else's words lead, on our terms.

The host's name is looked up once and the connection made to the very address that was judged,
so that a name cannot lead elsewhere a moment later. It ends by itself when the time is up, however
slowly the other talks. Proxies are not used.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from scheduler.loops.webhook_rules import Address, Target

Judge = Callable[[Address], str | None]
"""Why an address is not connected to; None if it may be."""


class AddressRefused(Exception):
    """No address of the host may be connected to; the text says why of the last one."""


@contextmanager
def connected(
    target: Target, judge: Judge, *, deadline: float
) -> Iterator[http.client.HTTPConnection]:
    """A connection until `deadline`, by the clock of `time.monotonic`.

    Raises `AddressRefused`, `TimeoutError`, `OSError` and `http.client.HTTPException`.
    """
    plain = _connect(target, judge, deadline)
    ended = threading.Event()
    cutter = plain.dup()  # of the same connection: the original goes over to TLS

    def cut() -> None:
        ended.set()
        with suppress(OSError):  # it is closed already
            cutter.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, deadline - time.monotonic()), cut)
    timer.daemon = True
    timer.start()
    connection = http.client.HTTPConnection(target.host, target.port)
    try:
        connection.sock = plain
        if target.secure:
            context = ssl.create_default_context()
            connection.sock = context.wrap_socket(plain, server_hostname=target.host)
        yield connection
        if ended.is_set():  # what was cut off can still look whole
            raise TimeoutError
    except (OSError, http.client.HTTPException, ValueError) as error:
        if ended.is_set():
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()
        timer.join()
        connection.close()
        plain.close()
        cutter.close()


def _connect(target: Target, judge: Judge, deadline: float) -> socket.socket:
    """Connect to the first of the host's addresses that may be used and can be reached."""
    found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    trouble: Exception = OSError(f"{target.host} has no address")
    for family, kind, protocol, _, place in found:
        why = judge(ipaddress.ip_address(place[0]))
        if why is not None:
            trouble = AddressRefused(why)
            continue
        made = socket.socket(family, kind, protocol)
        made.settimeout(max(0.1, deadline - time.monotonic()))
        try:
            made.connect(place)
        except OSError as error:
            made.close()
            trouble = error
            continue
        return made
    raise trouble
