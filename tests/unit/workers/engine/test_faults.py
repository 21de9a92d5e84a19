"""What torch raises, as it words it."""

from __future__ import annotations

import pytest
import torch

from workers.engine.faults import device_lost, is_out_of_memory

FULL = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ..."),
    MemoryError(),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if ..."),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory"
    ),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GiB)"),
)
DEAD = (
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: unspecified launch failure"),
    RuntimeError("CUDA error: uncorrectable ECC error encountered"),
    RuntimeError("CUDA error: device-side assert triggered"),
)
OTHER = (
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
    ValueError("out of memory, said a text that is none of the device's"),
)


@pytest.mark.parametrize("error", FULL, ids=str)
def test_too_little_memory_is_no_dead_device_however_it_is_worded(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert device_lost(error) is None


@pytest.mark.parametrize("error", DEAD, ids=str)
def test_a_dead_context_is_the_loss_of_the_device(error: Exception) -> None:
    lost = device_lost(error)
    assert lost is not None
    assert lost.message == str(error)
    assert not is_out_of_memory(error)


@pytest.mark.parametrize("error", OTHER, ids=str)
def test_what_is_neither_is_an_error_like_any_other(error: Exception) -> None:
    assert device_lost(error) is None
    assert not is_out_of_memory(error)
