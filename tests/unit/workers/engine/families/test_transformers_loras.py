"""LoRAs over the transformer families against diffusers' own loading of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from storage.contract.errors import ModelUnusable
from storage.contract.items import Lora
from tests.models.lora import transformer_lora
from tests.models.transformer_calls import (
    inputs_of,
    largest_difference,
    ordinary,
    ordinary_of_each,
    phased,
)
from tests.models.transformer_cases import CASES, ITEMS, Case, folder_of, make_spec

NAMES = ("sd3", "flux", "flux2", "klein-distilled", "sana", "sprint", "qwen", "z-image")
WITH_LORAS = [case for case in CASES if case.name in NAMES]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning")
@pytest.mark.parametrize("case", WITH_LORAS, ids=str)
def test_a_lora_gives_what_diffusers_makes_of_it(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, case: Case
) -> None:
    folder = folder_of(case, tmp_path_factory)
    files = [transformer_lora(tmp_path / f"{n}.safetensors", folder, seed=n) for n in range(2)]
    weights = [0.7, 0.4]
    plain = make_spec(case, folder)
    loras = tuple(Lora(id=str(file), weight=w) for file, w in zip(files, weights, strict=True))
    spec = msgspec.structs.replace(plain, loras=loras)

    def load(whole: Any) -> None:
        for number, file in enumerate(files):
            name = f"a{number}"
            whole.load_lora_weights(str(tmp_path), weight_name=file.name, adapter_name=name)
        whole.set_adapters(["a0", "a1"], weights)

    inputs = inputs_of(spec, len(ITEMS))
    latents, pictures = phased(folder, case, spec, ITEMS, inputs)
    own_call = ordinary_of_each if case.alone else ordinary
    own_latents, own_pictures = own_call(folder, case, spec, ITEMS, inputs, load)
    without, _ = phased(folder, case, plain, ITEMS, inputs)

    assert not torch.equal(latents, without)
    if "klein" not in case.name:  # whose own latents have the VAE's statistics in them
        # Of Sana's linear attention, up to 2e-5 of latents up to 5 are left to rounding.
        torch.testing.assert_close(latents, own_latents, rtol=0, atol=1e-4)
    assert largest_difference(pictures, own_pictures) <= 1


def test_a_lora_of_another_family_is_refused(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    flux, sana = (next(c for c in CASES if c.name == name) for name in ("flux", "sana"))
    file = transformer_lora(tmp_path / "sana.safetensors", folder_of(sana, tmp_path_factory))
    folder = folder_of(flux, tmp_path_factory)
    spec = msgspec.structs.replace(make_spec(flux, folder), loras=(Lora(id=str(file)),))

    with pytest.raises(ModelUnusable, match=r"no LoRA for this FLUX\.1 model"):
        phased(folder, flux, spec, ITEMS[:1], inputs_of(spec, 1))
