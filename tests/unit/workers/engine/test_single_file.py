"""Checkpoints of one file become diffusers folders with the same weights, without a network."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from storage.contract.errors import ModelUnusable
from storage.models.resolve import describe
from tests.models.classic import stable_diffusion, stable_diffusion_xl
from tests.models.originals import original_stable_diffusion, original_stable_diffusion_xl
from workers.engine.models import find_model
from workers.engine.single_file import CACHE, cache_folder, folder_of


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))


def tensors_in(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= load_file(file)
    return found


def without_weights(model: Path) -> None:
    """Leave a model's configs and vocabularies alone."""
    for file in model.rglob("*.safetensors"):
        file.unlink()


@pytest.fixture
def sd(tmp_path: Path) -> tuple[Path, Path]:
    """A tiny pipeline, and the same as one file beside its configs."""
    whole = stable_diffusion(tmp_path / "whole")
    shutil.copytree(whole, tmp_path / "files" / "tiny")
    without_weights(tmp_path / "files" / "tiny")
    file = original_stable_diffusion(whole, tmp_path / "files" / "tiny.safetensors")
    return whole, file


def assert_same(whole: Path, made: Path, *components: str) -> None:
    for name in components:
        there, here = tensors_in(whole / name), tensors_in(made / name)
        assert here.keys() == there.keys()
        assert all(torch.equal(here[key], there[key]) for key in there), name


def test_a_file_gives_the_weights_that_went_into_it(sd: tuple[Path, Path]) -> None:
    whole, file = sd
    made = folder_of(file)
    assert_same(whole, made, "unet", "vae", "text_encoder")
    assert made.parent == cache_folder()
    assert json.loads((made / "model_index.json").read_text())["safety_checker"] in (
        None,
        [None, None],
    )


def test_sdxls_two_encoders_come_out_of_one_file(tmp_path: Path) -> None:
    whole = stable_diffusion_xl(tmp_path / "whole")
    shutil.copytree(whole, tmp_path / "xl")
    without_weights(tmp_path / "xl")
    made = folder_of(original_stable_diffusion_xl(whole, tmp_path / "xl.safetensors"))
    assert_same(whole, made, "unet", "vae", "text_encoder", "text_encoder_2")


def test_a_file_is_a_model_by_its_path(sd: tuple[Path, Path]) -> None:
    _, file = sd
    card = describe(str(file))
    assert (card.model, card.pipeline) == (str(file), "StableDiffusionPipeline")
    model = find_model(str(file), None)
    assert model.card.parameters == card.parameters
    assert model.folder.parent == cache_folder()


def test_a_file_is_converted_once_until_it_changes(sd: tuple[Path, Path]) -> None:
    _, file = sd
    first = folder_of(file)
    before = (first / "model_index.json").stat().st_mtime_ns
    assert folder_of(file) == first
    assert (first / "model_index.json").stat().st_mtime_ns == before
    save_file({**load_file(file), "global_step": torch.zeros(1)}, file)
    assert folder_of(file) != first


def test_several_that_convert_at_once_end_with_one_folder(sd: tuple[Path, Path]) -> None:
    _, file = sd
    made: list[Path] = []
    threads = [threading.Thread(target=lambda: made.append(folder_of(file))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 3
    assert set(made) == {folder_of(file)}
    assert [path.name for path in cache_folder().iterdir()] == [made[0].name]


def test_half_precision_stays_half(sd: tuple[Path, Path]) -> None:
    whole, file = sd
    save_file({name: tensor.half() for name, tensor in load_file(file).items()}, file)
    made = folder_of(file)
    assert {tensor.dtype for tensor in tensors_in(made / "unet").values()} == {torch.float16}
    assert tensors_in(made / "unet").keys() == tensors_in(whole / "unet").keys()


def changed(file: Path, **tensors: Any) -> None:
    content = {name: value for name, value in load_file(file).items() if name not in tensors}
    save_file(content | {name: value for name, value in tensors.items() if value is not None}, file)


@pytest.mark.parametrize(
    ("tensor", "value"),
    [
        ("model.diffusion_model.time_embed.0.weight", None),
        ("model.diffusion_model.time_embed.0.weight", torch.zeros(3, 3)),
        ("first_stage_model.encoder.conv_in.weight", None),
        (
            "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight",
            None,
        ),
    ],
)
def test_a_file_with_a_missing_or_foreign_tensor_is_refused_by_name(
    sd: tuple[Path, Path], tensor: str, value: torch.Tensor | None
) -> None:
    _, file = sd
    changed(file, **{tensor: value})
    with pytest.raises(ModelUnusable, match="tiny"):
        folder_of(file)
    assert not list(cache_folder().iterdir())


def test_a_file_that_is_no_checkpoint_says_what_could_be(tmp_path: Path) -> None:
    file = tmp_path / "lora.safetensors"
    save_file({"lora.down.weight": torch.zeros(1)}, file)
    with pytest.raises(ModelUnusable, match="no checkpoint of a known kind") as caught:
        folder_of(file)
    assert "loras" in str(caught.value.hint)
