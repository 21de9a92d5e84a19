"""Names of adapters as every worker understands them."""

from __future__ import annotations

from pathlib import Path

import pytest

from scheduler.service.adapters import settled
from storage.contract.errors import ModelError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scheduler.service.adapters.hub_commit", _known)


def _known(name: str, revision: str | None) -> str | None:
    return COMMIT if name == "someone/ink" and revision in {None, "main"} else None


@pytest.mark.parametrize("revision", [None, "main"])
def test_a_hub_id_comes_with_the_commit_it_means_now(revision: str | None) -> None:
    assert settled("someone/ink", revision) == ("someone/ink", COMMIT)


def test_a_hub_id_nobody_can_tell_the_commit_of_stays_as_it_is() -> None:
    assert settled("someone/else", "v2") == ("someone/else", "v2")


def test_what_lies_on_this_machine_has_no_revision(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no revision 'main'"):
        settled(str(tmp_path), "main")


def test_folders_and_files_are_named_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loras" / "ink").mkdir(parents=True)
    (tmp_path / "loras" / "line.safetensors").write_bytes(b"")

    assert settled("loras/ink", None) == (str(tmp_path / "loras" / "ink"), None)
    file = tmp_path / "loras" / "line.safetensors"
    assert settled("loras/line.safetensors", None) == (str(file), None)


@pytest.mark.parametrize("name", ["a.ckpt", "a/b.pt", "a/b.BIN", "/x/y.pth"])
def test_pickles_are_refused_whether_they_are_there_or_not(name: str) -> None:
    with pytest.raises(ModelError, match="pickled weights are refused"):
        settled(name, None)


@pytest.mark.parametrize(
    "name", ["./gone", "/gone/x", "~/gone", "gone", "a/gone.safetensors", "a/b/c", "x" * 5000]
)
def test_what_is_neither_there_nor_a_hub_id_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="no such file or folder"):
        settled(name, None)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")

    with pytest.raises(ModelError, match=r"must be a folder or a \.safetensors file"):
        settled(str(tmp_path / "a.txt"), None)
