"""What a submit says of the weights is what the engine says of them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from storage.contract.items import IpAdapter, Lora, Upscaler
from storage.models.card import read_card
from storage.models.hashes import FileHashes, loaded_hash
from storage.models.weights import weight_files
from storage.testing.factories import make_spec
from workers.engine.models import find_model, hashes_of


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(tiny_model, tmp_path / "copy"))


@pytest.fixture
def lora(tmp_path: Path) -> str:
    """A file that could be a LoRA."""
    file = tmp_path / "lora.safetensors"
    save_file({"a": torch.zeros(2)}, file)
    return str(file)


def told(folder: Path, files: FileHashes | None = None, **overrides: Any) -> str | None:
    spec = make_spec(model=str(folder), **overrides)
    card = read_card(folder, model=str(folder), revision=None)
    return loaded_hash(spec, card, files or FileHashes())


def loaded(folder: Path, **overrides: Any) -> str:
    spec = make_spec(model=str(folder), **overrides)
    return hashes_of(find_model(str(folder), None), spec).weights


def test_a_submit_and_the_engine_say_the_same(model: Path) -> None:
    assert told(model) == loaded(model)


def test_they_say_the_same_of_a_model_with_loras(model: Path, lora: str) -> None:
    loras = (Lora(id=lora, weight=0.5), Lora(id=lora, weight=0.25))
    assert told(model, loras=loras) == loaded(model, loras=loras)
    assert told(model, loras=loras) != told(model, loras=loras[:1]) != told(model)


def test_a_file_that_was_replaced_is_hashed_again(model: Path) -> None:
    files = FileHashes()
    before = told(model, files)
    file = weight_files(model / "unet")[0]
    file.write_bytes(file.read_bytes()[:-4] + b"\1\2\3\4")
    os.utime(file, ns=(1, 1))
    assert told(model, files) != before


def test_hashes_are_remembered_between_processes(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "cache" / "hashes.json"
    files = FileHashes(place)
    before = told(model, files)
    files.keep()

    def read(*_: object) -> None:
        raise AssertionError("a file was read again")

    monkeypatch.setattr("hashlib.file_digest", read)
    assert told(model, FileHashes(place)) == before


def test_what_was_remembered_badly_is_forgotten(model: Path, tmp_path: Path) -> None:
    place = tmp_path / "hashes.json"
    place.write_text("[1, 2")
    assert told(model, FileHashes(place)) == told(model)


@pytest.mark.parametrize(
    "overrides",
    [
        {"ip_adapter": IpAdapter(model="adapter")},
        {"upscaler": Upscaler(model="upscaler")},
        {"loras": (Lora(id="somebody/lora"),)},
    ],
)
def test_of_what_is_not_all_here_nothing_is_said(model: Path, overrides: dict[str, Any]) -> None:
    assert told(model, **overrides) is None


def test_of_a_model_that_went_nothing_is_said(model: Path) -> None:
    card = read_card(model, model=str(model), revision=None)
    shutil.rmtree(model)
    assert loaded_hash(make_spec(model=str(model)), card, FileHashes()) is None
