"""Single weight files: which one is meant, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from storage.contract.errors import ModelError
from storage.models.files import LORA_FILE, locate_file
from storage.models.weights import files_hash

Write = Callable[..., None]


def test_a_file_is_itself(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "style.safetensors", (2,))
    assert locate_file(str(tmp_path / "style.safetensors")) == tmp_path / "style.safetensors"


def test_of_a_folder_the_only_file_is_meant(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "style.safetensors", (2,))
    (tmp_path / "README.md").touch()
    assert locate_file(str(tmp_path)).name == "style.safetensors"


def test_of_several_files_one_must_be_named_unless_it_has_diffusers_name(
    tmp_path: Path, write: Write
) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.safetensors", (2,))
    with pytest.raises(
        ModelError, match=r"several files: a\.safetensors, b\.safetensors"
    ) as caught:
        locate_file(str(tmp_path))
    assert "weight_name" in str(caught.value.hint)
    assert locate_file(str(tmp_path), weight_name="b.safetensors").name == "b.safetensors"
    write(tmp_path / LORA_FILE, (2,))
    assert locate_file(str(tmp_path)).name == LORA_FILE


def test_a_subfolder_is_looked_into(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "models" / "ip.safetensors", (2,))
    found = locate_file(str(tmp_path), weight_name="ip.safetensors", subfolder="models")
    assert found == tmp_path / "models" / "ip.safetensors"
    with pytest.raises(ModelError, match=r"has no \.safetensors file"):
        locate_file(str(tmp_path))


@pytest.mark.parametrize("suffix", [".bin", ".ckpt", ".pt", ".pth", ".CKPT"])
def test_pickles_are_refused_however_they_are_named(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"style{suffix}"
    file.write_bytes(b"code")
    asked: list[tuple[str, str | None]] = [
        (str(file), None),
        (str(tmp_path), None),
        (str(tmp_path), file.name),
        ("someone/style", file.name),
    ]
    for name, weight_name in asked:
        with pytest.raises(ModelError, match=r"pickled weights .* are refused; use its"):
            locate_file(name, weight_name=weight_name)


@pytest.mark.parametrize("name", ["", "nowhere.safetensors", "a b", "a/b/c", "x" * 300, "a\0b"])
def test_what_can_be_no_file_is_answered_with_what_can(name: str) -> None:
    with pytest.raises(ModelError, match="nor a folder, nor a hub id"):
        locate_file(name)


def test_what_lies_on_this_machine_has_no_revisions(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "a.safetensors", (2,))
    for name in (tmp_path, tmp_path / "a.safetensors"):
        with pytest.raises(ModelError, match="has no revision 'main'"):
            locate_file(str(name), revision="main")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no file .*c\.safetensors"):
        locate_file(str(tmp_path), weight_name="c.safetensors")


def test_the_hash_is_that_of_the_bytes_wherever_they_lie(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "a.safetensors", (2,))
    write(tmp_path / "other" / "b.safetensors", (2,))
    write(tmp_path / "c.safetensors", (2,), value=1.0)
    of = [files_hash([tmp_path / name]) for name in ("a.safetensors", "c.safetensors")]
    assert of[0] != of[1]
    assert files_hash([tmp_path / "other" / "b.safetensors"]) == of[0]


@pytest.mark.parametrize("way", ["../secret.safetensors", "/secret.safetensors", "a/../../b"])
def test_the_name_of_a_file_does_not_lead_out_of_its_folder(tmp_path: Path, way: str) -> None:
    with pytest.raises(ModelError, match="leads out of its folder"):
        locate_file(str(tmp_path), weight_name=way)
    with pytest.raises(ModelError, match="leads out of its folder"):
        locate_file(str(tmp_path), weight_name="x.safetensors", subfolder=way)
