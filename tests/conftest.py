"""Fixtures for all tiers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from storage.db.engine import Ledger, open_sqlite
from storage.db.schema import ensure_schema
from storage.objects.memory import MemoryStore

pytest_plugins = ["tests.services.brokers", "tests.services.postgres", "tests.services.s3"]

# Settings of whoever runs the tests must not reach them.
for _name in [name for name in os.environ if name.startswith("RENDERMILL_")]:
    del os.environ[_name]

# How long an example may take says more about the machine than about the code.
settings.register_profile("rendermill", deadline=None)
settings.load_profile("rendermill")


@pytest.fixture(scope="session")
def migrated_catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a ledger without rows, made once because migrating takes its time."""
    path = tmp_path_factory.mktemp("catalog") / "catalog.db"
    opened = open_sqlite(path)
    ensure_schema(opened)
    opened.close()
    return path


@pytest.fixture
def ledger(tmp_path: Path, migrated_catalog: Path) -> Iterator[Ledger]:
    """An empty ledger in a file."""
    opened = open_sqlite(Path(shutil.copy(migrated_catalog, tmp_path / "catalog.db")))
    yield opened
    opened.close()


@pytest.fixture
def store() -> MemoryStore:
    """An empty object store."""
    return MemoryStore()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a Stable Diffusion pipeline with random weights, small enough for tests."""
    from tests.models.classic import stable_diffusion

    return stable_diffusion(tmp_path_factory.mktemp("models") / "tiny")
