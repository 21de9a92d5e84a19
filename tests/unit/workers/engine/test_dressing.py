"""Adapters over components that are kept between tasks: nothing stale, nothing half done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from storage.contract.errors import ModelUnusable
from storage.contract.items import GroupSpec, Lora
from tests.models import classic
from tests.models.kinds import ITEMS, WORDS_ONLY, Drawings, Models, spec_named, spec_of
from workers.engine.devices import open_device
from workers.engine.diffusion import DiffusionRenderer

Make = Callable[..., DiffusionRenderer]
Render = Callable[..., Any]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("dressing"))


def first_of(result: Any) -> Any:
    picture = result.pictures[0]
    assert picture.fault is None, picture.detail
    return np.asarray(picture.pixels)


def test_a_lora_that_is_refused_leaves_nothing_of_the_ip_adapter_it_came_with(
    make_renderer: Make, render: Render, models: Models
) -> None:
    adapted = spec_named("ip adapter", models)
    refused = msgspec.structs.replace(adapted, loras=(Lora(id=str(_for_another(models))),))
    plain = spec_of(Path(adapted.model))
    renderer = make_renderer(open_device("cpu"), sources=Drawings())
    before = first_of(render(renderer, plain, items=WORDS_ONLY))

    with pytest.raises(ModelUnusable, match="is no LoRA for"):
        render(renderer, refused, items=ITEMS)
    after = first_of(render(renderer, plain, items=WORDS_ONLY))

    assert np.array_equal(after, before)


def test_a_lora_whose_file_was_replaced_is_laid_anew(
    make_renderer: Make, render: Render, models: Models, tmp_path: Path
) -> None:
    file, model = tmp_path / "style.safetensors", models("sd")
    spec: GroupSpec = spec_of(model, loras=(Lora(id=str(file), weight=3.0),))
    renderer = make_renderer(open_device("cpu"))

    results = []
    for seed in (8, 9):
        classic.lora(file, model, seed=seed)
        results.append(render(renderer, spec, items=WORDS_ONLY))

    assert not np.array_equal(first_of(results[0]), first_of(results[1]))
    assert results[0].facts[-1].weights != results[1].facts[-1].weights


def test_two_loras_of_one_folder_both_count_in_the_hash(
    make_renderer: Make, render: Render, models: Models, tmp_path: Path
) -> None:
    model, renderer = models("sd"), make_renderer(open_device("cpu"))
    for name, seed in (("a", 8), ("b", 9)):
        classic.lora(tmp_path / f"{name}.safetensors", model, seed=seed)
    loras = tuple(Lora(id=str(tmp_path), weight_name=f"{n}.safetensors") for n in ("a", "b"))

    before = render(renderer, spec_of(model, loras=loras), items=WORDS_ONLY)
    classic.lora(tmp_path / "a.safetensors", model, seed=10)
    after = render(renderer, spec_of(model, loras=loras), items=WORDS_ONLY)

    assert len(before.facts[-1].loras) == 2
    assert before.facts[-1].weights != after.facts[-1].weights


def _for_another(models: Models) -> Path:
    xl = models("stable_diffusion_xl")
    return classic.lora(xl.parent / "xl.safetensors", xl, text=True)
