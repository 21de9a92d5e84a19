"""Letting a module compute with one block of its weights on the device at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch

from workers.engine.meter import Meter

_HOOKS: Final = ("lazy_prefetch_group_offloading", "layer_execution_tracker", "group_offloading")
"""What diffusers 0.42 calls the hooks of group offloading (hooks/group_offloading.py)."""


@dataclass(frozen=True, slots=True)
class Streamed:
    """A module under streaming; `remove` undoes it, in whatever state an exception left it."""

    remove: Callable[[], None]


def stream_groups(module: Any, device: torch.device) -> Streamed:
    """By diffusers' group offloading; on a card the next block comes while one computes."""
    from diffusers.hooks import HookRegistry, apply_group_offloading

    apply_group_offloading(
        module,
        onload_device=device,
        offload_device=torch.device("cpu"),
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=device.type == "cuda",
    )

    def remove() -> None:
        registry = HookRegistry.check_if_exists_or_initialize(module)
        for name in _HOOKS:
            registry.remove_hook(name, recurse=True)
        module.to("cpu")

    return Streamed(remove=remove)


def stream_counted(module: Any, meter: Meter) -> Streamed:
    """On a simulated card: a block's weights count while it computes, all others always."""
    blocks = list(_blocks(module))
    inside = {id(tensor) for block in blocks for tensor in _tensors(block)}
    outside = [tensor for tensor in _tensors(module) if id(tensor) not in inside]
    meter.place(outside)
    handles = []
    for block in blocks:
        held = list(_tensors(block))
        handles += [
            block.register_forward_pre_hook(lambda _m, _a, held=held: meter.place(held)),
            block.register_forward_hook(
                lambda _m, _a, _r, held=held: meter.take_off(held), always_call=True
            ),
        ]

    def remove() -> None:
        for handle in handles:
            handle.remove()
        meter.take_off(_tensors(module))

    return Streamed(remove=remove)


def _blocks(module: Any) -> Iterator[Any]:
    """What stands in the outermost lists of a module, as diffusers' block level has it."""
    for child in module.children():
        if isinstance(child, torch.nn.ModuleList):
            yield from child
        else:
            yield from _blocks(child)


def _tensors(module: Any) -> Iterator[torch.Tensor]:
    yield from module.parameters()
    yield from module.buffers()
