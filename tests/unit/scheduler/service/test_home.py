"""Opening the home of one machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from scheduler.service.home import open_home
from storage.contract.errors import LedgerUnavailable, NotFoundError
from storage.db import jobs
from storage.home import CATALOG
from storage.testing.factories import add_job


def test_a_home_is_made_when_asked_for_and_found_again(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    with open_home(home, create=True) as opened:
        add_job(opened.ledger, opened.store, name="mine")
    assert (home / CATALOG).is_file()
    with open_home(home) as opened, opened.ledger.read() as connection:
        assert opened.home == home
        assert [job.name for job in jobs.newest(connection, limit=9)] == ["mine"]
        assert opened.store.size("jobs/mine/items") is not None


def test_a_home_that_is_not_there_is_not_made_for_reading(tmp_path: Path) -> None:
    said = "there is no catalog in "
    with pytest.raises(NotFoundError, match=said) as caught, open_home(tmp_path / "home"):
        pass
    assert caught.value.hint is not None
    assert "--home" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    home = tmp_path / "file" / "home"
    said = f"cannot make the home {home}: Not a directory"
    with pytest.raises(LedgerUnavailable, match=said), open_home(home, create=True):
        pass


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"\0" * 4096])
def test_a_catalog_that_is_none_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CATALOG).write_bytes(content)
    said = "it is not a SQLite database"
    with pytest.raises(LedgerUnavailable, match=said), open_home(tmp_path):
        pass


def test_nothing_stays_open(tmp_path: Path) -> None:
    with open_home(tmp_path, create=True):
        assert list(tmp_path.glob(f"{CATALOG}-wal"))
    # SQLite removes its log when the last connection is closed.
    assert not list(tmp_path.glob(f"{CATALOG}-wal"))
