"""Tests on a real card. Where there is none each is skipped, and says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch

from storage.contract.capability import Mode, ModeNeed
from storage.contract.items import GroupSpec, Item
from tests.models.rendering import Rendered, rendered
from workers.engine.devices import Device, open_device
from workers.engine.diffusion import DiffusionRenderer

DEVICE = "cuda:0"

OpenCard = Callable[..., Device]
Make = Callable[..., DiffusionRenderer]
Render = Callable[..., Rendered]


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """All tests of this folder are marked, and need a card."""
    without = not torch.cuda.is_available()
    for item in items:
        if "gpu" in item.path.parent.parts:
            item.add_marker(pytest.mark.gpu)
            if without:
                item.add_marker(pytest.mark.skip(reason="torch finds no CUDA device"))


@pytest.fixture
def device_name() -> str:
    """As torch calls it."""
    return DEVICE


@pytest.fixture
def open_card(device_name: str) -> Iterator[OpenCard]:
    """Opens the card, with a limit in bytes if one is given; the limit ends with the test."""
    yield lambda limit=None: open_device(device_name, limit=limit)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1.0, torch.device(device_name))


@pytest.fixture
def make_renderer() -> Make:
    """A renderer of float32, unless `dtypes` says otherwise, on the given device."""

    def made(device: Device, **options: Any) -> DiffusionRenderer:
        return DiffusionRenderer(
            device=device, kind="a card", **({"dtypes": ("float32",)} | options)
        )

    return made


@pytest.fixture
def render() -> Render:
    """Renders a task to its end."""

    def run(
        renderer: DiffusionRenderer,
        spec: GroupSpec,
        mode: Mode,
        items: Sequence[Item],
        first_item: int = 0,
    ) -> Rendered:
        need = ModeNeed(mode=mode, memory_bytes=0)
        return rendered(renderer, spec, need, items, first_item=first_item)

    return run
