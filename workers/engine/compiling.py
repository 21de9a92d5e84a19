"""The denoiser's blocks through torch.compile, where a group asks for it.

Only the blocks that repeat are compiled, where the model says which they are: seconds instead of
a minute. Shapes are fixed, because kernels for any shape give other bits than those for one. So
everything compiled is forgotten when a group of another shape comes: torch would go over to
kernels for any shape after some, and stop compiling after more.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import structlog
import torch

from storage.contract.capability import Mode
from storage.contract.items import COMPILED, GroupSpec
from workers.engine.devices import Device
from workers.engine.pool import Part

log = structlog.get_logger()


def compiles(device: Device, spec: GroupSpec, mode: Mode) -> bool:
    """Whether a group's denoiser is compiled: not where its blocks come and go."""
    return spec.compile == COMPILED and device.compiles and mode is not Mode.OFFLOAD


def compile_blocks(part: Part, spec: GroupSpec, *, wanted: bool) -> None:
    """Compile a denoiser for the group, or undo it.

    Nothing is compiled yet when this returns: the first step does it.
    """
    shape = spec.profile_key if wanted else None
    before = part.compiled_for
    if before == shape:
        return
    _undo(part.module)
    if before is not None:
        torch._dynamo.reset()
    part.compiled_for = shape
    if not wanted:
        return
    if getattr(part.module, "_repeated_blocks", None):
        part.module.compile_repeated_blocks(dynamic=False)
    else:
        part.module.compile(dynamic=False)
    part.just_compiled = True


def timed(part: Part, on_step: Callable[[int], None]) -> Callable[[int], None]:
    """`on_step`, which also logs how long compiling took.

    That is how much longer the first step took than the second.
    """
    if not part.just_compiled:
        return on_step
    part.just_compiled = False
    marks = [time.monotonic()]

    def told(step: int) -> None:
        marks.append(time.monotonic())
        if len(marks) == 3:
            seconds = (marks[1] - marks[0]) - (marks[2] - marks[1])
            log.info("compiled", action="compiled", component=part.name, seconds=round(seconds, 1))
        on_step(step)

    return told


def _undo(module: Any) -> None:
    for block in module.modules():
        block._compiled_call_impl = None
