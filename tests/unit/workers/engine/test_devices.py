from __future__ import annotations

from typing import Any

import pytest
import torch

from workers.engine.devices import Cpu, SimulatedCard, are_finite, module_bytes, move, open_device
from workers.engine.meter import Meter
from workers.engine.streaming import stream_counted, stream_groups


class Blocks(torch.nn.Module):
    """Some blocks in a list, and something before them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(8, 8)
        self.blocks = torch.nn.ModuleList(torch.nn.Linear(8, 8) for _ in range(4))
        self.requires_grad_(False)
        self.breaks = False

    def forward(self, x: Any) -> Any:
        x = self.first(x)
        for number, block in enumerate(self.blocks):
            if self.breaks and number == 2:
                raise torch.OutOfMemoryError("in the middle")
            x = block(x)
        return x


BLOCK = (8 * 8 + 8) * 4


def test_a_cpu_with_a_limit_passes_for_a_card() -> None:
    card = open_device("cpu", limit=1000)
    assert isinstance(card, SimulatedCard)
    assert (card.has_own_memory, card.room_bytes(), card.free_bytes()) == (True, 1000, 1000)
    assert isinstance(open_device("cpu"), Cpu)


def test_a_cpu_tells_what_it_takes() -> None:
    cpu = Cpu()
    cpu.reset_peak()
    before = cpu.peak_bytes()
    held = torch.ones(50 << 20, dtype=torch.uint8)
    assert cpu.peak_bytes() - before > 40 << 20
    assert held.numel() < cpu.free_bytes() < cpu.room_bytes()


def test_blocks_count_while_they_compute() -> None:
    module = Blocks()
    meter = Meter(1 << 20)

    streamed = stream_counted(module, meter)
    with meter, torch.no_grad():
        expected = module(torch.ones(1, 8))

    assert meter.weights == BLOCK  # what stands in no list stays
    assert 2 * BLOCK <= meter.peak < 3 * BLOCK
    streamed.remove()
    assert meter.weights == 0
    assert torch.equal(module(torch.ones(1, 8)), expected)


@pytest.mark.parametrize("breaks", [False, True])
def test_group_offloading_leaves_a_module_as_it_was(breaks: bool) -> None:
    module = Blocks()
    expected = module(torch.ones(1, 8))
    streamed = stream_groups(module, torch.device("cpu"))
    with torch.no_grad():
        assert torch.equal(module(torch.ones(1, 8)), expected)
        module.breaks = breaks
        if breaks:
            with pytest.raises(torch.OutOfMemoryError):
                module(torch.ones(1, 8))
    module.breaks = False

    streamed.remove()

    assert all(
        not getattr(part, "_diffusers_hook").hooks  # noqa: B009
        for part in module.modules()
        if hasattr(part, "_diffusers_hook")
    )
    assert torch.equal(module(torch.ones(1, 8)), expected)


def test_rows_go_to_the_host_whatever_holds_them() -> None:
    card = SimulatedCard(10_000)
    with card.computing():
        made = {"a": torch.ones(3), "b": [torch.zeros(2)], "c": None, "d": (1, torch.ones(1))}
        kept = move(made, card)
        del made
        assert card.meter.live == 0
    assert torch.equal(kept["a"], torch.ones(3))
    assert kept["d"][0] == 1


def test_whole_numbers_are_finite() -> None:
    assert are_finite([torch.tensor([1, 2]), "text", None, torch.ones(2)])
    assert not are_finite([torch.ones(2), torch.tensor([1.0, float("nan")])])


def test_weights_that_are_shared_count_once() -> None:
    module = Blocks()
    module.blocks[1].weight = module.blocks[0].weight
    assert module_bytes(module) == 5 * BLOCK - 8 * 8 * 4
