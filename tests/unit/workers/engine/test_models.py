from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from storage.contract.errors import ModelUnusable
from workers.engine.models import load


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(tiny_model, tmp_path / "copy"))


def _unet(model: Path) -> Path:
    return model / "unet" / "diffusion_pytorch_model.safetensors"


def _drop_a_tensor(model: Path) -> None:
    tensors = load_file(_unet(model))
    tensors.pop("conv_in.weight")
    save_file(tensors, _unet(model))


def _rename_all_tensors(model: Path) -> None:
    tensors = {f"other.{name}": value for name, value in load_file(_unet(model)).items()}
    save_file(tensors, _unet(model))


def _change_a_shape(model: Path) -> None:
    tensors = load_file(_unet(model))
    tensors["conv_in.weight"] = tensors["conv_in.weight"][:1].clone()
    save_file(tensors, _unet(model))


def _cut_short(model: Path) -> None:
    data = _unet(model).read_bytes()
    _unet(model).write_bytes(data[: len(data) // 2])


def _leave_a_pickle(model: Path) -> None:
    _unet(model).unlink()
    (model / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x04N.")


def _remove_the_index(model: Path) -> None:
    (model / "model_index.json").unlink()


def _drop_text_encoder_weights(model: Path) -> None:
    path = model / "text_encoder" / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("final_layer_norm.weight"))
    tensors.pop(name)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_drop_a_tensor, "1 tensors are missing"),
        (_rename_all_tensors, "do not belong to this model"),
        (_change_a_shape, "shape"),
        (_cut_short, "safetensors"),
        (_leave_a_pickle, "pickled weights"),
        (_remove_the_index, "model_index.json is missing"),
        (_drop_text_encoder_weights, "1 tensors are missing"),
    ],
)
def test_a_damaged_model_is_refused_in_words(
    model: Path, damage: Callable[[Path], None], said: str
) -> None:
    damage(model)

    with pytest.raises(ModelUnusable, match=said):
        load(str(model), None, dtype="float32", device="cpu")


def test_a_model_with_half_precision_weights_only_loads_in_float32(model: Path) -> None:
    for component, name in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ):
        path = model / component / f"{name}.safetensors"
        halved = {key: tensor.half() for key, tensor in load_file(path).items()}
        save_file(halved, model / component / f"{name}.fp16.safetensors", {"format": "pt"})
        path.unlink()

    loaded = load(str(model), None, dtype="float32", device="cpu")

    assert {str(p.dtype) for p in loaded.pipeline.unet.parameters()} == {"torch.float32"}


def test_the_hash_follows_the_weights_and_nothing_else(model: Path) -> None:
    before = load(str(model), None, dtype="float32", device="cpu").weights
    config = model / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"_note": "moved"}))
    assert load(str(model), None, dtype="float32", device="cpu").weights == before

    tensors = load_file(_unet(model))
    tensors["conv_in.bias"] = tensors["conv_in.bias"] + 1
    save_file(tensors, _unet(model))

    assert load(str(model), None, dtype="float32", device="cpu").weights != before
