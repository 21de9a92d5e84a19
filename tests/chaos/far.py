"""A machine of its own for a worker: a network namespace whose cable can be pulled.

The namespace reaches the services through forwarders on this side of the cable. Its host name
is its own, so that the scheduler cannot look whether its processes live.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

import pytest

_NET: Final = "10.231"


@dataclass(frozen=True, kw_only=True, slots=True)
class FarMachine:
    """A namespace, joined to this machine by a pair of interfaces."""

    name: str
    here: str  #: this machine's address on the cable

    @property
    def through(self) -> list[str]:
        """The command that runs another one over there."""
        renamed = f'hostname {self.name}; exec "$@"'
        inside = ["unshare", "--uts", "sh", "-c", renamed, "sh"]
        return ["ip", "netns", "exec", self.name, *inside]

    def pull_the_cable(self) -> None:
        """Nothing gets through any more, and nobody is told."""
        _ip("link", "set", self.name, "down")

    def plug_it_in(self) -> None:
        """Everything gets through again, also what was sent meanwhile."""
        _ip("link", "set", self.name, "up")

    def seen_from_there(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The same settings with this machine's address on the cable."""
        names = [name for name in environment if name.endswith("_URL") or name == "NO_PROXY"]
        return {name: environment[name].replace("127.0.0.1", self.here) for name in names}


@contextmanager
def far_machine(ports: list[int]) -> Iterator[FarMachine]:
    """A machine that reaches these ports of this one; it is gone after the block."""
    _need_rights()
    name = f"rm{uuid4().hex[:8]}"
    net, first = f"{_NET}.{secrets.randbelow(256)}", 4 * secrets.randbelow(64)
    here, there = f"{net}.{first + 1}", f"{net}.{first + 2}"
    with ExitStack() as opened:
        _ip("netns", "add", name)
        opened.callback(_ip, "netns", "del", name)
        _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("address", "add", f"{here}/30", "dev", name)
        _ip("link", "set", name, "up")
        for device in (["address", "add", f"{there}/30", "dev", "eth0"], *_ups("eth0", "lo")):
            _ip("-n", name, *device)
        for port in ports:
            opened.enter_context(_forwarder(here, port))
        yield FarMachine(name=name, here=here)


def _ups(*devices: str) -> list[list[str]]:
    return [["link", "set", device, "up"] for device in devices]


def _need_rights() -> None:
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("unshare"):
        pytest.skip("making a network namespace needs root and iproute2")
    tried = subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"no network namespaces here: {tried.stderr.decode().strip()}")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextmanager
def _forwarder(here: str, port: int) -> Iterator[None]:
    """Passes connections to the far side's address on to this machine's own."""
    listener = socket.create_server((here, port))
    joined: list[socket.socket] = []

    def accept() -> None:
        with suppress(OSError):  # closed: the end
            while True:
                far, _ = listener.accept()
                joined.append(far)
                try:
                    near = socket.create_connection(("127.0.0.1", port))
                except OSError:
                    far.close()
                    continue
                joined.append(near)
                for source, sink in ((far, near), (near, far)):
                    threading.Thread(target=_pass_on, args=(source, sink), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for one in joined:
            one.close()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for one in (source, sink):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
