"""Every family and kind on a card, in all modes, against diffusers' own call there."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from storage.contract.capability import Mode
from storage.contract.items import BatchShape
from tests.models import kinds
from tests.models.own_call import own_call
from tests.models.transformer_calls import inputs_of, ordinary, ordinary_of_each
from tests.models.transformer_cases import CASES, ITEMS, PICTURED, Case, folder_of, make_spec

MODES = (Mode.RESIDENT, Mode.LEAN, Mode.PHASED, Mode.OFFLOAD)
LEVELS = 1  #: of 255, by which kernels chosen by the size of what is free may differ


def furthest(ours: Any, theirs: Any) -> int:
    return max(
        int(np.abs(one.astype(int) - other.astype(int)).max())
        for one, other in zip(ours, theirs, strict=True)
    )


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> kinds.Models:
    return kinds.Models(tmp_path_factory.mktemp("kinds"))


class Given:
    """The pictures of items by their rows."""

    def __init__(self, inputs: list[Any]) -> None:
        self._inputs = inputs

    def inputs_of(self, item: Any, _spec: Any) -> Any:
        return self._inputs[item.row]

    def prefetch(self, items: Any) -> None:
        pass


@pytest.mark.filterwarnings("ignore:In CPU autocast:UserWarning")
@pytest.mark.parametrize("name", kinds.KINDS)
def test_a_classic_kind(
    open_card: Any,
    make_renderer: Any,
    render: Any,
    device_name: str,
    models: kinds.Models,
    name: str,
) -> None:
    spec = kinds.spec_named(name, models)
    spec = msgspec.structs.replace(spec, batch=BatchShape(encode=3, denoise=3, decode=3))
    sources = kinds.Drawings()
    inputs = [sources.inputs_of(item, spec) for item in kinds.ITEMS]

    made = [
        render(make_renderer(open_card(), sources=sources), spec, mode, kinds.ITEMS).pixels()
        for mode in MODES
    ]

    for others in made[1:]:
        assert all(np.array_equal(*two) for two in zip(made[0], others, strict=True))
    assert furthest(made[0], own_call(spec, kinds.ITEMS, inputs, device_name)) <= LEVELS


@pytest.mark.parametrize("case", [*CASES, *PICTURED], ids=str)
def test_a_transformer_kind(
    tmp_path_factory: pytest.TempPathFactory,
    open_card: Any,
    make_renderer: Any,
    render: Any,
    device_name: str,
    case: Case,
) -> None:
    folder = folder_of(case, tmp_path_factory)
    spec = make_spec(case, folder)
    inputs = inputs_of(spec, len(ITEMS))
    changes: dict[str, Any] = {"image": "a picture"} if spec.needs_picture else {}
    if "klein" in case.name:  # whose ordinary call knows no negative prompt but the empty one
        changes["negative_prompt"] = ""
    items = [msgspec.structs.replace(item, **changes) for item in ITEMS]

    made = [
        render(make_renderer(open_card(), sources=Given(inputs)), spec, mode, items).pixels()
        for mode in MODES
    ]

    for others in made[1:]:
        assert all(np.array_equal(*two) for two in zip(made[0], others, strict=True))
    call = ordinary_of_each if case.alone else ordinary
    _, theirs = call(folder, case, spec, items, inputs, lambda whole: whole.to(device_name))
    assert furthest(made[0], theirs) <= LEVELS


@pytest.mark.parametrize("name", ["image to image", "xl"])
def test_an_item_alone_is_bit_for_bit_what_it_is_among_others(
    open_card: Any, make_renderer: Any, render: Any, models: kinds.Models, name: str
) -> None:
    spec = kinds.spec_named(name, models)
    renderer = make_renderer(open_card(), sources=kinds.Drawings())
    together = render(renderer, spec, Mode.RESIDENT, kinds.ITEMS).pixels()

    (alone,) = render(renderer, spec, Mode.RESIDENT, kinds.ITEMS[1:2], first_item=1).pixels()

    assert np.array_equal(alone, together[1])
