from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from safetensors.torch import load_file, save_file

from storage.contract.errors import ModelUnusable
from storage.contract.items import GroupSpec
from storage.testing.factories import make_spec
from workers.engine.components import load_component, source_in
from workers.engine.models import Model, find_model, hashes_of


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(tiny_model, tmp_path / "copy"))


def _load(folder: Path) -> Model:
    """All that a task would load."""
    model = find_model(str(folder), None)
    spec = _spec(folder)
    assert model.weightless.keys() == {"tokenizer", "scheduler"}
    for name in model.card.family.components:
        load_component(model.source(name, spec, "float32"))
    return model


def _spec(folder: Path) -> GroupSpec:
    return make_spec(model=str(folder))


def _hash(folder: Path) -> str:
    return hashes_of(find_model(str(folder), None), _spec(folder)).weights


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


def _rewrite_index(model: Path, component: str, named: list[str]) -> None:
    path = model / "model_index.json"
    index = json.loads(path.read_text())
    index[component] = named
    path.write_text(json.dumps(index))


def _bring_own_code(model: Path) -> None:
    _rewrite_index(model, "unet", ["my_unet", "EvilUNet"])


def _name_no_class(model: Path) -> None:
    _rewrite_index(model, "unet", ["diffusers", "logging"])


def _spoil_a_config(model: Path) -> None:
    (model / "unet" / "config.json").write_text("{")


def _take_the_tokenizer(model: Path) -> None:
    shutil.rmtree(model / "tokenizer")


def _cut_the_data_short(model: Path) -> None:
    """Its header stays whole."""
    data = _unet(model).read_bytes()
    _unet(model).write_bytes(data[:-1000])


def _take_the_vocabulary(model: Path) -> None:
    for path in (model / "tokenizer").iterdir():
        if path.name != "tokenizer_config.json":
            path.unlink()


def _claim_a_longer_header(model: Path) -> None:
    data = bytearray(_unet(model).read_bytes())
    data[6] ^= 0x40  # the eight first bytes are the header's length
    _unet(model).write_bytes(data)


def _name_another_dtype(model: Path) -> None:
    data = _unet(model).read_bytes()
    _unet(model).write_bytes(data.replace(b'"F32"', b'"X32"', 1))


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
        (_bring_own_code, "neither diffusers nor transformers"),
        (_name_no_class, "neither diffusers nor transformers"),
        (_spoil_a_config, "config.json"),
        (_take_the_tokenizer, "tokenizer"),
        (_take_the_vocabulary, "tokenizer"),
        (_claim_a_longer_header, r"diffusion_pytorch_model.safetensors is not"),
        (_name_another_dtype, r"diffusion_pytorch_model.safetensors is not"),
        (_cut_the_data_short, r"diffusion_pytorch_model.safetensors is not"),
    ],
)
def test_a_damaged_model_is_refused_in_words(
    model: Path, damage: Callable[[Path], None], said: str
) -> None:
    damage(model)

    with pytest.raises(ModelUnusable, match=said):
        _load(model)


def test_a_flipped_bit_in_a_header_is_refused_or_harms_nothing(model: Path) -> None:
    """Whatever the bit: another dtype, shape, name or length, or only a note's letter."""
    path = model / "vae" / "diffusion_pytorch_model.safetensors"
    whole = path.read_bytes()
    header = int.from_bytes(whole[:8], "little")
    right = load_component(source_in(model, "vae", "float32")).state_dict()
    random = Random(3)
    refused = 0
    for _ in range(30):
        flipped = bytearray(whole)
        flipped[random.randrange(8 + header)] ^= 1 << random.randrange(8)
        path.write_bytes(flipped)
        try:
            loaded = load_component(source_in(model, "vae", "float32")).state_dict()
        except ModelUnusable:
            refused += 1
        else:
            assert all(loaded[name].equal(tensor) for name, tensor in right.items())
    assert refused > 20


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

    unet = load_component(source_in(model, "unet", "float32"))

    assert {str(p.dtype) for p in unet.parameters()} == {"torch.float32"}


def test_the_hash_follows_the_weights_and_nothing_else(model: Path) -> None:
    before = _hash(model)
    config = model / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"_note": "moved"}))
    assert _hash(model) == before

    tensors = load_file(_unet(model))
    tensors["conv_in.bias"] = tensors["conv_in.bias"] + 1
    save_file(tensors, _unet(model))

    assert _hash(model) != before
