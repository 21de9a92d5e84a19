"""What is lossy is done only where a group asks, and is recorded."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from storage.contract.capability import Mode
from storage.contract.errors import ModelUnusable
from storage.contract.families.registry import FAMILIES
from storage.contract.items import GroupSpec
from tests.models.transformer_cases import CASES, ITEMS, folder_of
from tests.models.transformer_cases import make_spec as spec_of
from workers.engine.devices import open_device
from workers.engine.diffusion import DiffusionRenderer

Make = Callable[..., DiffusionRenderer]
Render = Callable[..., Any]


def pixels_of(result: Any) -> Any:
    assert not [picture.detail for picture in result.pictures.values() if picture.fault]
    return np.stack([result.pictures[n].pixels for n in sorted(result.pictures)]).astype(int)


def test_quantized_pictures_differ_a_little_and_say_so(
    make_renderer: Make, render: Render, spec: GroupSpec
) -> None:
    renderer = make_renderer(open_device("cpu"))
    quantized = msgspec.structs.replace(spec, quantization="fp8")

    plain, lossy, again = (render(renderer, one) for one in (spec, quantized, spec))

    assert 0 < np.abs(pixels_of(plain) - pixels_of(lossy)).mean() < 8
    assert np.array_equal(pixels_of(again), pixels_of(plain))
    assert lossy.facts[-1].lossy == ("quantization fp8",)
    assert again.facts[-1].lossy == ()


@pytest.mark.parametrize("cache", ["first-block", "taylorseer"])
def test_a_cache_over_steps_looks_at_one_picture_at_a_time(
    tmp_path_factory: pytest.TempPathFactory, make_renderer: Make, render: Render, cache: str
) -> None:
    case = next(case for case in CASES if case.name == "flux")
    spec = spec_of(case, folder_of(case, tmp_path_factory))
    cached = msgspec.structs.replace(spec, cache=cache)
    renderer = make_renderer(open_device("cpu"))

    result = render(renderer, cached, Mode.CPU, ITEMS)
    alone = render(renderer, cached, Mode.CPU, ITEMS[:1])

    assert result.facts[-1].lossy == (f"cache {cache}",)
    assert result.facts[-1].batch.denoise == 1
    assert np.array_equal(pixels_of(alone)[0], pixels_of(result)[0])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"quantization": "int3"}, "can do: fp8"),
        ({"cache": "magic"}, "can do: first-block, taylorseer"),
        ({"cache": "first-block"}, "UNet2DConditionModel takes no cache"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(
    make_renderer: Make, render: Render, spec: GroupSpec, changes: dict[str, str], said: str
) -> None:
    with pytest.raises(ModelUnusable, match=said):
        render(make_renderer(open_device("cpu")), msgspec.structs.replace(spec, **changes))


def test_families_take_caches_where_their_transformers_do() -> None:
    import typing

    import diffusers

    for family in FAMILIES:
        names = inspect.signature(getattr(diffusers, family.pipeline).__init__).parameters
        assert family.denoiser in names
        hints = typing.get_type_hints(getattr(diffusers, family.pipeline).__init__)
        kinds = typing.get_args(hints[family.denoiser]) or (hints[family.denoiser],)
        assert family.caches == any(hasattr(kind, "enable_cache") for kind in kinds), family.name
