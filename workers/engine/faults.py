"""What torch raises, told apart: too little memory, a dead device, or something else."""

from __future__ import annotations

from typing import Final

import torch

from storage.contract.errors import DeviceLost
from workers.engine.components import first_line

_DEAD: Final = ("CUDA error", "device-side assert", "cuda runtime error")
_FULL: Final = (
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_NOT_SUPPORTED",  # what cuDNN says where it has no memory for its workspace
    "can't allocate memory",  # the CPU's allocator
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller step may help."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(mark in str(error) for mark in _FULL)


def device_lost(error: BaseException) -> DeviceLost | None:
    """The loss of the device, if that is what it is: its context is dead.

    cuBLAS, and the driver itself, call it a "CUDA error" too when they find no memory; the
    context survives that.
    """
    if is_out_of_memory(error):
        return None
    if isinstance(error, RuntimeError) and any(mark in str(error) for mark in _DEAD):
        return DeviceLost(first_line(error))
    return None
