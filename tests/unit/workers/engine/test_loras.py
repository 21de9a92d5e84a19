"""LoRAs against diffusers' own loading, laid over one component at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from storage.contract.errors import ModelUnusable
from storage.contract.families.stable_diffusion import STABLE_DIFFUSION
from storage.contract.families.stable_diffusion_xl import STABLE_DIFFUSION_XL
from storage.contract.items import BatchShape, GroupSpec, Lora
from storage.testing.factories import make_item
from tests.models import classic
from tests.models.phases import Phased, generators, open_whole, to_bytes
from workers.engine.families.base import Inputs
from workers.engine.loras import hash_lora, lay, lift, locate_lora

ITEMS = [
    make_item(n, prompt=f"a red thing {n}", negative_prompt="dull", seed=11 + n) for n in range(2)
]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classic.stable_diffusion(tmp_path_factory.mktemp("sd"))


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classic.stable_diffusion_xl(tmp_path_factory.mktemp("xl"))


def make_spec(folder: Path, *loras: Lora) -> GroupSpec:
    return GroupSpec(
        model=str(folder),
        width=64,
        height=64,
        num_inference_steps=3,
        guidance_scale=6.0,
        scheduler="ddim",
        batch=BatchShape(encode=2, denoise=2, decode=2),
        loras=loras,
    )


def rendered(whole: Any, spec: GroupSpec) -> np.ndarray:
    """Each component dressed when its phase comes, and undressed after."""
    phased = Phased(whole, spec)
    dressed: dict[str, Any] = {}

    def dress(name: str, component: Any) -> None:
        lift(dressed)
        dressed.clear()
        if name != "vae":
            lay({name: component}, spec.loras, phased.family)
            dressed[name] = component

    phased.dress = dress
    pictures = phased.pictures(ITEMS, [Inputs() for _ in ITEMS])
    lift(dressed)
    return pictures


def ordinary(folder: Path, loras: list[tuple[Path, float]]) -> np.ndarray:
    whole = open_whole(folder)
    for number, (file, _) in enumerate(loras):
        whole.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name=f"a{number}")
    if loras:
        names = [f"a{number}" for number in range(len(loras))]
        whole.set_adapters(names, [weight for _, weight in loras])
    images = whole(
        prompt=[item.prompt for item in ITEMS],
        negative_prompt=[item.negative_prompt for item in ITEMS],
        width=64,
        height=64,
        num_inference_steps=3,
        guidance_scale=6.0,
        generator=generators(ITEMS),
        output_type="np",
    ).images
    return to_bytes(images)


def to_kohya(file: Path, made: Path) -> Path:
    """The same in the names of kohya's scripts, with an alpha for each module."""
    weights: dict[str, torch.Tensor] = {}
    for key, value in load_file(file).items():
        module, _, end = key.partition(".lora_")
        name = module.removeprefix("unet.").replace(".", "_")
        weights[f"lora_unet_{name}.lora_{'down' if end[0] == 'A' else 'up'}.weight"] = value
        weights[f"lora_unet_{name}.alpha"] = torch.tensor(2.0)
    save_file(weights, made)
    return made


@pytest.mark.parametrize("text", [False, True], ids=["denoiser", "and text encoders"])
@pytest.mark.parametrize("family", ["sd", "xl"])
@pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning")
def test_a_lora_gives_what_diffusers_makes_of_it(
    request: pytest.FixtureRequest, tmp_path: Path, family: str, text: bool
) -> None:
    folder = request.getfixturevalue(family)
    file = classic.lora(tmp_path / "a.safetensors", folder, text=text)

    ours = rendered(open_whole(folder), make_spec(folder, Lora(id=str(file), weight=0.7)))

    assert np.array_equal(ours, ordinary(folder, [(file, 0.7)]))
    assert not np.array_equal(ours, ordinary(folder, []))


@pytest.mark.parametrize("family", ["sd", "xl"])
@pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning")
def test_several_loras_lie_at_once_each_with_its_weight(
    request: pytest.FixtureRequest, tmp_path: Path, family: str
) -> None:
    folder = request.getfixturevalue(family)
    one = classic.lora(tmp_path / "one.safetensors", folder, seed=1, text=True)
    two = classic.lora(tmp_path / "two.safetensors", folder, seed=2, rank=2)
    spec = make_spec(folder, Lora(id=str(one), weight=0.5), Lora(id=str(two), weight=-0.8))

    ours = rendered(open_whole(folder), spec)

    assert np.array_equal(ours, ordinary(folder, [(one, 0.5), (two, -0.8)]))
    assert not np.array_equal(ours, ordinary(folder, [(one, 0.5)]))


def test_a_lora_in_kohyas_names_is_understood(sd: Path, tmp_path: Path) -> None:
    file = to_kohya(classic.lora(tmp_path / "a.safetensors", sd), tmp_path / "kohya.safetensors")

    ours = rendered(open_whole(sd), make_spec(sd, Lora(id=str(file), weight=0.9)))

    assert np.array_equal(ours, ordinary(sd, [(file, 0.9)]))
    assert not np.array_equal(ours, ordinary(sd, []))


@pytest.mark.parametrize("family", ["sd", "xl"])
def test_a_model_is_itself_again_after_its_lora(
    request: pytest.FixtureRequest, tmp_path: Path, family: str
) -> None:
    folder = request.getfixturevalue(family)
    file = classic.lora(tmp_path / "a.safetensors", folder, text=True)
    whole = open_whole(folder)
    tensors = {name: value.clone() for name, value in whole.unet.state_dict().items()}

    before = rendered(whole, make_spec(folder))
    dressed = rendered(whole, make_spec(folder, Lora(id=str(file))))
    after = rendered(whole, make_spec(folder))
    again = rendered(whole, make_spec(folder, Lora(id=str(file))))

    assert np.array_equal(before, after)
    assert np.array_equal(dressed, again)
    assert not np.array_equal(before, dressed)
    now = whole.unet.state_dict()
    assert now.keys() == tensors.keys()
    assert all(torch.equal(now[name], value) for name, value in tensors.items())


def test_a_lora_of_another_family_is_refused(sd: Path, xl: Path, tmp_path: Path) -> None:
    for_xl = classic.lora(tmp_path / "xl.safetensors", xl, text=True)
    for_sd = classic.lora(tmp_path / "sd.safetensors", sd, text=True)
    small, large = open_whole(sd), open_whole(xl)

    with pytest.raises(ModelUnusable, match="no LoRA for Stable Diffusion 1"):
        lay({"text_encoder": small.text_encoder}, [Lora(id=str(for_xl))], STABLE_DIFFUSION)
    with pytest.raises(ModelUnusable, match="no LoRA for this Stable Diffusion XL model"):
        lay({"unet": large.unet}, [Lora(id=str(for_sd))], STABLE_DIFFUSION_XL)

    assert not getattr(large.unet, "peft_config", None)


def test_what_lay_before_a_refused_one_is_lifted(sd: Path, xl: Path, tmp_path: Path) -> None:
    good = classic.lora(tmp_path / "sd.safetensors", sd)
    bad = classic.lora(tmp_path / "xl.safetensors", xl)
    unet = open_whole(sd).unet
    names = set(unet.state_dict())

    with pytest.raises(ModelUnusable):
        lay({"unet": unet}, [Lora(id=str(good)), Lora(id=str(bad))], STABLE_DIFFUSION)

    assert set(unet.state_dict()) == names


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"not a safetensors file", "cannot be used"), (None, "is no LoRA")],
    ids=["damaged", "weights of something else"],
)
def test_a_file_that_is_none_is_refused(
    sd: Path, tmp_path: Path, content: bytes | None, said: str
) -> None:
    file = tmp_path / "a.safetensors"
    if content is None:
        save_file({"unet.conv_in.weight": torch.zeros(2)}, file)
    else:
        file.write_bytes(content)

    with pytest.raises(ModelUnusable, match=said) as caught:
        lay({"unet": open_whole(sd).unet}, [Lora(id=str(file))], STABLE_DIFFUSION)

    assert str(file) in caught.value.message


def test_a_lora_that_is_not_there_is_the_models_fault(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"pickled")

    with pytest.raises(ModelUnusable, match="pickled"):
        locate_lora(Lora(id=str(tmp_path)))
    with pytest.raises(ModelUnusable, match="no weights"):
        locate_lora(Lora(id=str(tmp_path / "absent")))


def test_its_hash_is_that_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"weights")

    assert hash_lora(Lora(id=str(tmp_path))) == hashlib.sha256(b"weights").hexdigest()
