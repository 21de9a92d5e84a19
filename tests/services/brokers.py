"""Private RabbitMQ and Redis servers for tests, on ports and in folders of their own.

Their processes belong to whoever started them and are ended by id, never by name. Where the
programs are missing, tests that need them are skipped, and fail in CI.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

START_SECONDS = 90.0
RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
ABSENT_IN_CI = "CI needs it"


class Server:
    """One server; it may be killed and started again on the same port and folder."""

    url: str

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self._processes: list[subprocess.Popen[bytes]] = []
        folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Start it and wait until it answers; its data is what the last one left."""
        raise NotImplementedError

    def kill(self) -> None:
        """End it at once, as a power cut would; does nothing if it does not run."""
        for process in reversed(self._processes):
            process.kill()
            process.wait()
        self._processes.clear()

    def _launch(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        with open(self.folder / "server.log", "ab") as log:
            self._processes.append(
                subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    env=os.environ | (environment or {}),
                    start_new_session=True,  # a Ctrl-C for the tests is not for it
                )
            )

    def _wait(self, port: int, greeting: bytes, answer: bytes) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(port, greeting, answer):
            if self._processes[-1].poll() is not None or time.monotonic() > deadline:
                self.kill()
                said = (self.folder / "server.log").read_text(errors="replace")[-3000:]
                raise RuntimeError(f"{type(self).__name__} did not start:\n{said}")
            time.sleep(0.05)


class RedisServer(Server):
    """Redis with an append-only file that is synced with every write."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, _free_ports(1)[0])
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = {"port": str(self.port), "bind": "127.0.0.1", "dir": str(self.folder)}
        options |= {"appendonly": "yes", "appendfsync": "always", "save": ""}
        options |= {"maxmemory-policy": "noeviction", "daemonize": "no"}
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        self._launch(["redis-server", *arguments])
        self._wait(self.port, b"PING\r\n", b"+PONG")


class RabbitServer(Server):
    """RabbitMQ with an epmd of its own."""

    def __init__(self, folder: Path) -> None:
        port, self._node_port, self._epmd_port = _free_ports(3)
        super().__init__(folder, port)
        self.url = f"amqp://guest:guest@127.0.0.1:{port}//"

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._launch(["epmd", "-address", "127.0.0.1", "-port", str(self._epmd_port)])
        (self.folder / "rabbitmq.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{self.port}\n")
        (self.folder / "enabled_plugins").write_text("[].\n")
        self._launch([str(RABBITMQ)], self._environment())
        self._wait(self.port, b"AMQP\x00\x00\x09\x01", b"\x01")

    def _environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            # The server takes the place of its script, so that a signal reaches it.
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._node_port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} -noinput"
            ),
        }


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """A RabbitMQ server; a test that stops it starts it again."""
    need_rabbitmq()
    server = RabbitServer(tmp_path_factory.mktemp("rabbitmq"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis server; a test that stops it starts it again."""
    need_redis()
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


def need_rabbitmq() -> None:
    """Skip where its programs are missing; in CI, fail."""
    _need(RABBITMQ.exists() and shutil.which("epmd"), "RabbitMQ (apt install rabbitmq-server)")


def need_redis() -> None:
    """The same for Redis."""
    _need(shutil.which("redis-server"), "Redis (apt install redis-server)")


def _need(there: object, what: str) -> None:
    if there:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing; {ABSENT_IN_CI}")
    pytest.skip(f"needs {what}")


def _answers(port: int, greeting: bytes, answer: bytes) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(greeting)
            return connection.recv(64).startswith(answer)
    except OSError:
        return False


def _free_ports(count: int) -> list[int]:
    """Ports nobody listens on; all different."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()
