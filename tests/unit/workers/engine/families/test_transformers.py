"""Each kind of task of the transformer families against diffusers' own call, on the CPU.

In float32 the phases give the very latents and bytes of an ordinary call of the same batch. Of
Qwen-Image and Z-Image, whose texts have different lengths, they give those of an ordinary call of
each image alone, whatever the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from tests.models.transformer_calls import (
    inputs_of,
    largest_difference,
    ordinary,
    ordinary_of_each,
    phased,
)
from tests.models.transformer_cases import (
    CASES,
    GUIDED,
    ITEMS,
    PICTURED,
    Case,
    folder_of,
    make_spec,
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("case", CASES + PICTURED, ids=str)
def test_the_phases_give_the_pictures_of_an_ordinary_call(
    tmp_path_factory: pytest.TempPathFactory, case: Case
) -> None:
    folder = folder_of(case, tmp_path_factory)
    spec = make_spec(case, folder)
    inputs = inputs_of(spec, len(ITEMS))
    items = ITEMS
    if "klein" in case.name:  # whose ordinary call knows only the empty one
        items = [msgspec.structs.replace(item, negative_prompt="") for item in ITEMS]

    latents, pictures = phased(folder, case, spec, items, inputs)
    own_call = ordinary_of_each if case.alone else ordinary
    own_latents, own_pictures = own_call(folder, case, spec, items, inputs)

    if "klein" not in case.name:  # whose own latents have the VAE's statistics in them
        assert torch.equal(latents, own_latents)
    if case.alone:  # decoded as a batch here
        assert largest_difference(pictures, own_pictures) <= 1
    else:
        assert np.array_equal(pictures, own_pictures)


def test_z_image_with_guidance_differs_from_an_ordinary_call_by_rounding_only(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = folder_of(GUIDED, tmp_path_factory)
    spec = make_spec(GUIDED, folder)
    inputs = inputs_of(spec, len(ITEMS))

    latents, pictures = phased(folder, GUIDED, spec, ITEMS, inputs)
    own_latents, own_pictures = ordinary_of_each(folder, GUIDED, spec, ITEMS, inputs)

    torch.testing.assert_close(latents, own_latents, rtol=0, atol=1e-4)
    assert largest_difference(pictures, own_pictures) <= 1


def test_a_cache_over_the_steps_sees_each_image_of_a_batch_by_itself(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    from diffusers import FirstBlockCacheConfig

    qwen = next(case for case in CASES if case.name == "qwen")
    folder = folder_of(qwen, tmp_path_factory)
    plain = msgspec.structs.replace(make_spec(qwen, folder), num_inference_steps=8)
    cached = msgspec.structs.replace(plain, cache="first-block")
    inputs = inputs_of(plain, len(ITEMS))
    without, _ = phased(folder, qwen, plain, ITEMS, inputs)

    def caching(whole: Any) -> None:
        whole.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.9))

    own_latents, _ = ordinary_of_each(folder, qwen, plain, ITEMS, inputs, caching)
    latents, _ = phased(folder, qwen, cached, ITEMS, inputs, caching)

    assert torch.equal(latents, own_latents)
    assert not torch.equal(latents, without)  # steps were left out
