"""The transformer families through the whole engine, in all modes, alone and among others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from storage.contract.capability import Mode
from storage.contract.items import BatchShape, GroupSpec
from tests.models.transformer_cases import CASES, GUIDED, ITEMS, Case, folder_of, make_spec
from workers.engine.devices import SimulatedCard, open_device
from workers.engine.diffusion import DiffusionRenderer
from workers.engine.ports import Picture

GIB = 2**30

Make = Callable[..., DiffusionRenderer]
Render = Callable[..., Any]

NAMES = ("sd3", "sd3-without-t5", "flux-true-cfg", "flux2", "klein", "pixart", "sana", "qwen")
FAMILIES = [*(case for case in CASES if case.name in NAMES), GUIDED]


def short(spec: GroupSpec) -> GroupSpec:
    return msgspec.structs.replace(spec, num_inference_steps=2)


def same(one: Picture, other: Picture) -> bool:
    """Bit for bit."""
    assert one.pixels is not None
    assert one.pixels.std() > 5
    return np.array_equal(one.pixels, np.asarray(other.pixels))


@pytest.mark.parametrize("case", FAMILIES, ids=str)
def test_a_mode_changes_no_bit(
    tmp_path_factory: pytest.TempPathFactory, make_renderer: Make, render: Render, case: Case
) -> None:
    spec = short(make_spec(case, folder_of(case, tmp_path_factory)))
    on_cpu = render(make_renderer(open_device("cpu")), spec, Mode.CPU, ITEMS).pictures

    for mode in (Mode.RESIDENT, Mode.PHASED, Mode.OFFLOAD):
        pictures = render(make_renderer(SimulatedCard(GIB)), spec, mode, ITEMS).pictures
        assert all(same(pictures[n], on_cpu[n]) for n in range(len(ITEMS))), mode


@pytest.mark.parametrize("case", FAMILIES, ids=str)
def test_an_item_alone_is_bit_for_bit_what_it_is_among_others(
    tmp_path_factory: pytest.TempPathFactory, make_renderer: Make, render: Render, case: Case
) -> None:
    spec = short(make_spec(case, folder_of(case, tmp_path_factory)))
    renderer = make_renderer(open_device("cpu"))
    together = render(renderer, spec, Mode.CPU, ITEMS).pictures

    for number, item in enumerate(ITEMS):
        alone = render(renderer, spec, Mode.CPU, [item], first_item=number).pictures
        assert same(alone[number], together[number])


@pytest.mark.parametrize(
    "case", [case for case in FAMILIES if case.name in ("qwen", "z-image-cfg")], ids=str
)
def test_where_texts_have_different_lengths_the_batch_size_changes_no_bit(
    tmp_path_factory: pytest.TempPathFactory, make_renderer: Make, render: Render, case: Case
) -> None:
    spec = short(make_spec(case, folder_of(case, tmp_path_factory)))
    renderer = make_renderer(open_device("cpu"))
    pictures = [
        render(renderer, msgspec.structs.replace(spec, batch=batch), Mode.CPU, ITEMS).pictures
        for batch in (
            BatchShape(encode=3, denoise=3, decode=1),
            BatchShape(encode=3, denoise=1, decode=1),
        )
    ]

    assert all(same(pictures[0][n], pictures[1][n]) for n in range(len(ITEMS)))


def test_a_prompt_longer_than_what_is_read_is_reported(
    tmp_path_factory: pytest.TempPathFactory, make_renderer: Make, render: Render
) -> None:
    (flux,) = (case for case in FAMILIES if case.name == "flux-true-cfg")
    spec = make_spec(flux, folder_of(flux, tmp_path_factory))
    spec = msgspec.structs.replace(spec, max_sequence_length=20)

    pictures = render(make_renderer(open_device("cpu")), spec, Mode.CPU, ITEMS).pictures

    # A token for each letter and each word's beginning, and one for the end.
    assert [pictures[n].truncated_tokens for n in range(3)] == [0, 30 + 8 + 1 - 20, 0]


def test_a_processor_for_texts_and_pictures_is_read_as_a_tokenizer(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, make_renderer: Make, render: Render
) -> None:
    (flux2,) = (case for case in FAMILIES if case.name == "flux2")
    spec = short(make_spec(flux2, folder_of(flux2, tmp_path_factory)))
    folder = shutil.copytree(spec.model, tmp_path / "as released")
    index = json.loads((folder / "model_index.json").read_text())
    index["tokenizer"] = ["transformers", "PixtralProcessor"]
    (folder / "model_index.json").write_text(json.dumps(index))
    released = msgspec.structs.replace(spec, model=str(folder))

    pictures = [
        render(make_renderer(open_device("cpu")), one, Mode.CPU, ITEMS).pictures
        for one in (spec, released)
    ]

    assert all(same(pictures[0][n], pictures[1][n]) for n in range(len(ITEMS)))
