"""Parameters of what groups name beside their model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from scheduler.estimate import Companions
from scheduler.service.companions import Beside
from storage.contract.errors import ModelError
from storage.contract.items import ControlNet, IpAdapter, Lora, Upscaler
from storage.contract.models import ModelCard
from storage.testing.factories import make_card, make_spec

UPSCALER = make_card(model="up")


def describe(model: str, revision: str | None) -> ModelCard:
    if model.endswith("broken"):
        raise ModelError("broken")
    return UPSCALER


def weigh(file: Path, parameters: int) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({"w": np.zeros(parameters, np.float16)}, file)
    return file


def test_what_lies_here_is_counted(tmp_path: Path) -> None:
    spec = make_spec(
        loras=tuple(Lora(id=str(weigh(tmp_path / f"{n}.safetensors", n))) for n in (3, 4)),
        controlnets=(ControlNet(model=str(weigh(tmp_path / "net" / "d.safetensors", 9).parent)),),
        ip_adapter=IpAdapter(model=str(tmp_path / "ip"), weight_name="a.safetensors"),
        upscaler=Upscaler(model=str(tmp_path)),
    )
    weigh(tmp_path / "ip" / "models" / "a.safetensors", 5)
    weigh(tmp_path / "ip" / "models" / "image_encoder" / "model.safetensors", 6)
    assert Beside(describe).of(spec) == Companions(
        loras=7, controlnets=9, ip_adapter=5, image_encoder=6, upscaler=UPSCALER
    )


def test_a_group_without_companions_asks_for_nothing() -> None:
    assert Beside(describe).of(make_spec()) == Companions()


def test_what_lies_on_the_hub_is_left_to_guesses(tmp_path: Path) -> None:
    here = Lora(id=str(weigh(tmp_path / "a.safetensors", 3)))
    spec = make_spec(
        loras=(here, Lora(id="someone/style")),
        controlnets=(ControlNet(model="someone/canny"),),
        ip_adapter=IpAdapter(model="someone/ip"),
        upscaler=Upscaler(model="someone/up"),
    )
    assert Beside(describe).of(spec) == Companions()


@pytest.mark.parametrize("name", ["", "broken"])
def test_what_cannot_be_read_is_the_workers_to_complain_of(tmp_path: Path, name: str) -> None:
    folder = tmp_path / (name or "empty")
    folder.mkdir()
    (folder / "x.safetensors").write_bytes(b"?")
    spec = make_spec(
        loras=(Lora(id=str(folder)),),
        controlnets=(ControlNet(model=str(folder)),),
        ip_adapter=IpAdapter(model=str(folder)),
        upscaler=Upscaler(model=str(folder)) if name else None,
    )
    assert Beside(describe).of(spec) == Companions()
