"""S3 stores on a server that says what the test tells it to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from storage.objects.s3 import S3Store, open_s3
from storage.objects.s3_client import Options
from tests.services.told_server import ToldServer, told_server

QUICK = Options(connect_seconds=2, read_seconds=5, attempts=1, patience_seconds=5)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials for a server that looks at none, and nothing of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[ToldServer]:
    """A running server."""
    with told_server() as running:
        yield running


@pytest.fixture
def open_store(server: ToldServer) -> Iterator[Callable[..., S3Store]]:
    """Opens stores on that server; `options` as for `Options`."""
    opened: list[S3Store] = []

    def open_one(options: Options = QUICK) -> S3Store:
        url = f"s3://pictures/of?endpoint=http://127.0.0.1:{server.server_port}"
        opened.append(open_s3(url, options))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()
