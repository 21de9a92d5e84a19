"""Names of adapters as every worker understands them."""

from __future__ import annotations

from pathlib import Path

import pytest

from scheduler.service.adapters import settled
from storage.contract.errors import ModelError


def test_hub_ids_stay_as_they_are() -> None:
    assert settled("latent-consistency/lcm-lora-sdv1-5") == "latent-consistency/lcm-lora-sdv1-5"


def test_folders_and_files_are_named_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loras" / "ink").mkdir(parents=True)
    (tmp_path / "loras" / "line.safetensors").write_bytes(b"")

    assert settled("loras/ink") == str(tmp_path / "loras" / "ink")
    assert settled("loras/line.safetensors") == str(tmp_path / "loras" / "line.safetensors")


@pytest.mark.parametrize("name", ["a.ckpt", "a/b.pt", "a/b.BIN", "/x/y.pth"])
def test_pickles_are_refused_whether_they_are_there_or_not(name: str) -> None:
    with pytest.raises(ModelError, match="pickled weights are refused"):
        settled(name)


@pytest.mark.parametrize(
    "name", ["./gone", "/gone/x", "~/gone", "gone", "a/gone.safetensors", "a/b/c", "x" * 5000]
)
def test_what_is_neither_there_nor_a_hub_id_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="no such file or folder"):
        settled(name)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")

    with pytest.raises(ModelError, match=r"must be a folder or a \.safetensors file"):
        settled(str(tmp_path / "a.txt"))
