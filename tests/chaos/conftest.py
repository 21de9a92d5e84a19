from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.services import Broker
from tests.chaos.wreck import Wreck, wreck_of
from tests.services.brokers import need_rabbitmq, need_redis
from tests.services.postgres import need_binaries


@pytest.fixture
def seed() -> int:
    """Of all chance in a test; CHAOS_SEED plays an earlier one again."""
    drawn = int(os.environ.get("CHAOS_SEED") or secrets.randbelow(1_000_000))
    print(f"play it again: CHAOS_SEED={drawn}")
    return drawn


@pytest.fixture
def broker() -> Broker:
    """The broker of the wreck; tests that need both are parametrised over it."""
    return "redis"


@pytest.fixture
def wreck(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wreck]:
    """A farm with a scheduler and no workers, on services that may be killed."""
    need_binaries()
    (need_rabbitmq if broker == "rabbitmq" else need_redis)()
    with wreck_of(tmp_path, broker) as made:
        for name, value in made.services.environment.items():
            if name.startswith("AWS_"):
                monkeypatch.setenv(name, value)
        yield made
    shutil.rmtree(tmp_path / "services")
