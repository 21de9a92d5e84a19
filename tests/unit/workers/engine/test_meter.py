from __future__ import annotations

import gc

import pytest
import torch

from workers.engine.devices import SimulatedCard, module_bytes
from workers.engine.meter import Meter


def test_a_tensor_counts_while_it_lives() -> None:
    meter = Meter(10_000)
    with meter:
        one = torch.zeros(100)
        other = one + 1
        assert meter.live == 800
        del one
        assert meter.live == 400
    del other
    assert (meter.live, meter.peak) == (0, 800)


def test_views_cost_nothing() -> None:
    meter = Meter(10_000)
    with meter:
        one = torch.zeros(10, 10)
        views = [one.T, one[2:], one.reshape(100)]
        assert meter.live == 400
    del one
    assert meter.live == 400  # the views keep it
    views.clear()
    gc.collect()
    assert meter.live == 0


def test_going_over_the_limit_is_what_a_card_would_say() -> None:
    meter = Meter(1000)
    with meter, pytest.raises(torch.OutOfMemoryError, match="tried to allocate 1200 bytes"):
        torch.zeros(300)


def test_weights_are_placed_whole_or_not_at_all() -> None:
    module = torch.nn.Linear(10, 10)
    meter = Meter(module_bytes(module) - 1)
    with pytest.raises(torch.OutOfMemoryError):
        meter.place(module.parameters())
    assert meter.weights == 0


def test_a_weight_placed_twice_counts_once() -> None:
    card = SimulatedCard(10_000)
    module = torch.nn.Linear(10, 10)
    card.place(module)
    card.place(module)
    assert card.meter.weights == 440
    card.take_off(module)
    assert card.free_bytes() == 10_000


def test_a_weight_that_was_not_placed_cannot_be_used() -> None:
    card = SimulatedCard(10_000)
    module = torch.nn.Linear(10, 10).requires_grad_(False)
    with card.computing(), torch.no_grad(), pytest.raises(RuntimeError, match="host memory"):
        module(torch.zeros(1, 10))


def test_what_goes_to_the_host_leaves_the_card() -> None:
    card = SimulatedCard(10_000)
    with card.computing():
        made = torch.arange(100.0)
        kept = card.to_host(made)
        assert card.meter.live == 400
        del made
        assert card.meter.live == 0
    assert torch.equal(kept, torch.arange(100.0))
