"""From the name a row gives a model to its card and its folder; never over the network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.contract.errors import ModelError
from storage.models.resolve import STARTER, describe, locate, starter_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OLDER = "f" * 40
Cached = Callable[..., Path]


@pytest.fixture
def cached(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Cached:
    """Puts the model into the cache of the Hugging Face hub, as its client lays it out."""
    hub = pytest.importorskip("huggingface_hub.constants")
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(cache))

    def put(repository: str, commit: str = COMMIT, *refs: str, without: str = "-") -> Path:
        place = cache / f"models--{repository.replace('/', '--')}"
        for source in model.rglob("*"):
            if source.is_file() and source.suffix != without:
                target = place / "snapshots" / commit / source.relative_to(model)
                blob = place / "blobs" / str(abs(hash(source)))
                for folder in (target.parent, blob.parent):
                    folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, blob)
                target.symlink_to(blob)
        for ref in refs:
            (place / "refs").mkdir(exist_ok=True)
            (place / "refs" / ref).write_text(commit)
        return place / "snapshots" / commit

    return put


def test_the_starter_comes_with_the_package() -> None:
    card = describe(STARTER)
    assert (card.model, card.revision, card.path) == (STARTER, None, str(starter_folder()))
    assert locate(STARTER) == starter_folder()
    assert card.weight_bytes < 20_000_000


def test_describing_a_model_loads_no_torch() -> None:
    code = (
        "import sys; from storage.models.resolve import describe; describe('starter');"
        "print({'torch', 'diffusers', 'transformers'} & set(sys.modules))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "set()\n"


def test_a_folder_is_known_by_its_whole_path_however_it_is_written(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    monkeypatch.setenv("HOME", str(model.parent))
    for written in (str(model), "tiny", "./tiny", f"../{model.parent.name}/tiny", "~/tiny"):
        card = describe(written)
        assert (card.model, card.revision) == (str(model), None)
        assert locate(written).samefile(model)


def test_a_folder_goes_before_a_hub_id(
    cached: Cached, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached("acme/tiny", COMMIT, "main")
    monkeypatch.chdir(model.parent)
    shutil.copytree(model, model.parent / "acme" / "tiny")
    assert describe("acme/tiny").model == str(model.parent / "acme" / "tiny")


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "nowhere",
        "./nowhere",
        "../a/b",
        "/no/where",
        "~/nowhere",
        "~nobody-of-that-name/x",
        "a b/c",
        "a/b/c",
        "a\0b",
        "x" * 300,
        "https://huggingface.co/acme/tiny",
    ],
)
def test_a_name_that_can_be_no_model_is_answered_with_what_can(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        describe(name)
    assert str(caught.value) == (
        f"no model {name!r}: it is neither 'starter', nor a folder or file, nor a hub id"
    )
    assert "a hub id looks like" in str(caught.value.hint)


def test_a_folder_that_is_no_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"not a diffusers model: .*model_index\.json is missing"):
        describe(str(tmp_path))


def test_what_lies_in_a_folder_has_no_revisions(model: Path) -> None:
    for name in (STARTER, str(model)):
        with pytest.raises(ModelError, match="lies on this machine and has no revision 'main'"):
            describe(name, "main")


@pytest.mark.parametrize("revision", [None, "main", "v1", COMMIT])
def test_a_hub_model_is_pinned_to_its_commit_whatever_revision_was_asked_for(
    cached: Cached, revision: str | None
) -> None:
    folder = cached("acme/tiny", COMMIT, "main", "v1")
    cached("acme/tiny", OLDER, "v0")

    card = describe("acme/tiny", revision)
    assert (card.model, card.revision) == ("acme/tiny", COMMIT)
    assert locate("acme/tiny", card.revision) == folder
    assert card.parameters == {"text_encoder": 8, "unet": 6, "vae": 5}
    assert describe("acme/tiny", "v0").revision == OLDER


@pytest.mark.parametrize(("name", "revision"), [("acme/other", None), ("acme/tiny", "v9")])
def test_a_hub_model_that_cannot_be_had_is_named_with_the_hubs_own_words(
    cached: Cached, name: str, revision: str | None
) -> None:
    cached("acme/tiny", COMMIT, "main")
    at = f" at revision {revision!r}" if revision else ""
    with pytest.raises(ModelError) as caught:
        describe(name, revision)
    assert str(caught.value).startswith(
        f"no model {name!r}{at}: it is no folder here, and the Hugging Face hub did not give it:"
        " Cannot find an appropriate cached snapshot folder"
    )
    assert "\n" not in str(caught.value)
    assert "hf auth login" in str(caught.value.hint)


def test_a_hub_model_with_pickled_weights_only_is_refused(cached: Cached) -> None:
    folder = cached("acme/tiny", COMMIT, "main", without=".safetensors")
    (folder / "text_encoder" / "pytorch_model.bin").write_bytes(b"code")
    with pytest.raises(ModelError, match="has only pickled weights in text_encoder"):
        describe("acme/tiny")


def test_without_the_hubs_client_folders_still_work(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert describe(str(model)).width == 64
    with pytest.raises(ModelError, match="hub need huggingface_hub") as caught:
        describe("acme/tiny")
    assert "rendermill[worker]" in str(caught.value.hint)
