from __future__ import annotations

import sys
from pathlib import Path

import pytest

from storage.contract.errors import (
    LedgerUnavailable,
    NotFoundError,
    SettingError,
)
from storage.db.engine import Ledger
from storage.home import CATALOG
from storage.objects.folder import FolderStore
from storage.opening import open_ledger, open_mill, open_store, open_tickets
from storage.settings import Connections


def test_a_home_is_made_only_when_asked_for(tmp_path: Path) -> None:
    connections = Connections(home=tmp_path / "home")

    with pytest.raises(NotFoundError, match="there is no catalog") as missing:
        open_mill(connections)
    assert "--home" in (missing.value.hint or "")

    with open_mill(connections, create=True) as mill:
        assert mill.home == tmp_path / "home"
        assert mill.ledger.where.endswith(CATALOG)
    open_mill(connections).close()


def test_a_home_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(LedgerUnavailable, match="cannot make the home"):
        open_mill(Connections(home=tmp_path / "file" / "home"), create=True)


def test_pictures_go_into_the_home_or_the_folder_that_is_named(tmp_path: Path) -> None:
    elsewhere = tmp_path / "a b"
    elsewhere.mkdir()

    for connections, folder in (
        (Connections(home=tmp_path), tmp_path),
        (Connections(home=tmp_path, storage_url=f"file://{tmp_path}/a%20b"), elsewhere),
    ):
        store = open_store(connections)
        assert isinstance(store, FolderStore)
        store.put("renders/1.png", b"picture")
        assert (folder / "renders" / "1.png").read_bytes() == b"picture"


def test_a_farms_ledger_is_the_database_that_is_named() -> None:
    connections = Connections(home=Path(), database_url="postgresql://u:secret@nowhere/mill")

    ledger = open_ledger(connections)

    assert ledger.where == "database mill on nowhere"
    ledger.close()


def test_what_was_opened_is_closed_when_the_rest_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    close = Ledger.close

    def noted(self: Ledger) -> None:
        closed.append(self.where)
        close(self)

    monkeypatch.setattr(Ledger, "close", noted)

    with pytest.raises(SettingError):
        open_mill(Connections(home=tmp_path, storage_url="s3://"), create=True)

    assert closed == [str(tmp_path / CATALOG)]


def test_a_broker_without_its_packages_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [name for name in sys.modules if name.startswith("storage.broker")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "celery", None)

    with pytest.raises(SettingError) as missing:
        open_tickets("amqp://host")

    assert "needs the package celery" in missing.value.message
    assert "rendermill[farm]" in (missing.value.hint or "")
