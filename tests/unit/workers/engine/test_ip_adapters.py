"""IP-Adapters: found, put into a UNet and taken out again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from storage.contract.errors import ModelUnusable
from storage.contract.items import IpAdapter
from tests.models import classic
from tests.models.phases import open_whole
from workers.engine.ip_adapters import (
    attach,
    image_encoder_folder,
    locate_ip_adapter,
    reads_hidden_states,
    weights_hash,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classic.stable_diffusion(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def made(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classic.ip_adapter(tmp_path_factory.mktemp("adapter") / "ip", model)


@pytest.fixture
def adapter(made: Path, tmp_path: Path) -> IpAdapter:
    """One in a folder of its own."""
    return IpAdapter(model=str(shutil.copytree(made, tmp_path / "ip")), scale=0.6)


def file_of(adapter: IpAdapter) -> Path:
    return Path(adapter.model) / adapter.subfolder / adapter.weight_name


def predicted(unet: Any, looks: list[torch.Tensor] | None = None) -> torch.Tensor:
    states = torch.ones(1, 77, unet.config.cross_attention_dim)
    added = None if looks is None else {"image_embeds": looks}
    with torch.no_grad():
        found: torch.Tensor = unet(
            torch.ones(1, 4, 8, 8), 10, states, added_cond_kwargs=added
        ).sample
    return found


LOOKS = [torch.linspace(-1, 1, 32).reshape(1, 1, 32)]


def test_a_unet_is_itself_again_after_its_adapter(model: Path, adapter: IpAdapter) -> None:
    unet = open_whole(model).unet
    before, names = predicted(unet), set(unet.state_dict())

    attach(unet, adapter)
    looking = predicted(unet, LOOKS)
    attach(unet, None)

    assert not torch.equal(looking, before)
    assert torch.equal(predicted(unet), before)
    assert set(unet.state_dict()) == names


def test_its_scale_changes_without_loading_it_again(model: Path, adapter: IpAdapter) -> None:
    unet = open_whole(model).unet
    attach(unet, adapter)
    first = predicted(unet, LOOKS)
    projection = unet.encoder_hid_proj

    attach(unet, msgspec.structs.replace(adapter, scale=0.1))
    weaker = predicted(unet, LOOKS)
    attach(unet, adapter)

    assert unet.encoder_hid_proj is projection
    assert not torch.equal(first, weaker)
    assert torch.equal(predicted(unet, LOOKS), first)


def test_another_adapter_takes_the_place_of_the_first(
    model: Path, adapter: IpAdapter, tmp_path: Path
) -> None:
    unet, fresh = open_whole(model).unet, open_whole(model).unet
    plus = IpAdapter(model=str(classic.ip_adapter(tmp_path / "plus", model, plus=True)))
    states = [torch.linspace(-1, 1, 17 * 32).reshape(1, 1, 17, 32)]

    attach(unet, adapter)
    attach(unet, plus)
    attach(fresh, plus)

    assert torch.equal(predicted(unet, states), predicted(fresh, states))


def test_what_it_looks_at_follows_from_its_weights(
    model: Path, adapter: IpAdapter, tmp_path: Path
) -> None:
    plus = IpAdapter(model=str(classic.ip_adapter(tmp_path / "plus", model, plus=True)))

    assert not reads_hidden_states(locate_ip_adapter(adapter))
    assert reads_hidden_states(locate_ip_adapter(plus))


def test_one_for_faces_is_refused(adapter: IpAdapter) -> None:
    weights = load_file(file_of(adapter))
    del weights["image_proj.proj.weight"]
    save_file(weights, file_of(adapter))

    with pytest.raises(ModelUnusable, match="FaceID"):
        reads_hidden_states(locate_ip_adapter(adapter))


def _of_another_family(file: Path) -> None:
    weights = load_file(file)
    save_file({k: v if "_ip." not in k else torch.zeros(7, 7) for k, v in weights.items()}, file)


def _damaged(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:200])


def _half(file: Path) -> None:
    weights = load_file(file)
    save_file({k: v for k, v in weights.items() if k.startswith("ip_adapter")}, file)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_of_another_family, "does not fit"),
        (_damaged, "not a whole safetensors file"),
        (_half, "is not an IP-Adapter"),
    ],
)
def test_one_that_cannot_be_used_is_refused_and_leaves_no_trace(
    model: Path, adapter: IpAdapter, spoil: Callable[[Path], None], said: str
) -> None:
    unet = open_whole(model).unet
    before = predicted(unet)
    spoil(file_of(adapter))

    with pytest.raises(ModelUnusable, match=said) as caught:
        attach(unet, adapter)

    assert str(file_of(adapter)) in caught.value.message
    assert torch.equal(predicted(unet), before)


def test_pickled_weights_are_refused(adapter: IpAdapter) -> None:
    with pytest.raises(ModelUnusable, match="pickled"):
        locate_ip_adapter(msgspec.structs.replace(adapter, weight_name="ip-adapter_sd15.bin"))


def test_its_image_encoder_lies_beside_it(adapter: IpAdapter) -> None:
    folder = Path(adapter.model)

    assert image_encoder_folder(adapter) == folder / "models" / "image_encoder"
    shutil.rmtree(folder / "models" / "image_encoder")
    with pytest.raises(ModelUnusable, match="no image encoder"):
        image_encoder_folder(adapter)


def test_an_sdxl_adapter_may_use_the_image_encoder_of_sd(adapter: IpAdapter) -> None:
    folder = Path(adapter.model)
    (folder / "sdxl_models").mkdir()
    name = "ip-adapter_sdxl_vit-h.safetensors"
    shutil.copy(file_of(adapter), folder / "sdxl_models" / name)
    shared = msgspec.structs.replace(adapter, subfolder="sdxl_models", weight_name=name)

    assert image_encoder_folder(shared) == folder / "models" / "image_encoder"


def test_its_hash_is_that_of_the_file(adapter: IpAdapter) -> None:
    before = weights_hash(locate_ip_adapter(adapter))
    _half(file_of(adapter))

    assert len(before) == 64
    assert weights_hash(locate_ip_adapter(adapter)) != before
