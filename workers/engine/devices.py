"""The devices pixels are computed on, behind one port.

It tells what is free and what was taken, puts weights there and takes them off again.

A simulated card is a CPU that behaves like a card with so many bytes: weights placed on it and
tensors computed there are counted, and going over the limit raises what a card would raise.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import psutil
import torch

from workers.engine.meter import Meter
from workers.engine.streaming import Streamed, stream_counted, stream_groups

Module = Any
"""A torch module."""


class Device(Protocol):
    """What the engine asks of a device."""

    @property
    def name(self) -> str:
        """As torch calls it."""

    @property
    def has_own_memory(self) -> bool:
        """Whether its memory is apart from the host's."""

    @property
    def compiles(self) -> bool:
        """Whether torch.compile makes kernels for it."""

    def free_bytes(self) -> int:
        """What could be allocated now, what torch keeps for itself and could give included."""

    def room_bytes(self) -> int:
        """All that this process could have: what it holds and what is free."""

    def peak_bytes(self) -> int:
        """The largest memory taken since the last `reset_peak`; 0 if it cannot be told."""

    def reset_peak(self) -> None:
        """Begin to measure anew."""

    def empty(self) -> None:
        """Free what nobody refers to."""

    def place(self, module: Module) -> None:
        """Bring a module's weights onto the device."""

    def take_off(self, module: Module) -> None:
        """Bring them back to host memory."""

    def stream(self, module: Module) -> Streamed:
        """Let a module compute on the device with its blocks coming and going."""

    def to_host(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor that takes no memory of the device."""

    def computing(self) -> Any:
        """A context to compute in."""


def tensors_of(module: Module) -> Iterator[torch.Tensor]:
    """All weights of a module."""
    yield from module.parameters()
    yield from module.buffers()


def module_bytes(module: Module) -> int:
    """Bytes of all weights of a module, shared ones once."""
    storages = {
        t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors_of(module)
    }
    return sum(storages.values())


class Cpu:
    """The host itself: its memory is where weights lie anyway."""

    name = "cpu"
    has_own_memory = False
    compiles = True

    def free_bytes(self) -> int:
        """As the system tells."""
        return psutil.virtual_memory().available

    def room_bytes(self) -> int:
        """Free and its own."""
        return self.free_bytes() + psutil.Process().memory_info().rss

    def peak_bytes(self) -> int:
        """The process's resident memory at its largest."""
        with suppress(OSError, StopIteration, ValueError):
            lines = _STATUS.read_text().splitlines()
            peak = next(line for line in lines if line.startswith("VmHWM:"))
            return int(peak.split()[1]) * 1024
        return psutil.Process().memory_info().rss

    def reset_peak(self) -> None:
        """Where the system allows it."""
        with suppress(OSError):
            _CLEAR_PEAK.write_text("5")

    def empty(self) -> None:
        """Collect cycles."""
        gc.collect()

    def place(self, module: Module) -> None:
        """It is there."""

    def take_off(self, module: Module) -> None:
        """It stays."""

    def stream(self, module: Module) -> Streamed:
        """There is nowhere else to stream from."""
        return Streamed(remove=lambda: None)

    def to_host(self, tensor: torch.Tensor) -> torch.Tensor:
        """It is there."""
        return tensor.detach()

    def computing(self) -> Any:
        """Nothing to prepare."""
        return nullcontext()


_FRAGMENTATION: Final = 1.05
_STATUS: Final = Path("/proc/self/status")
_CLEAR_PEAK: Final = Path("/proc/self/clear_refs")


class SimulatedCard:
    """A CPU with a card's limit."""

    name = "cpu"
    has_own_memory = True
    compiles = False  # what is compiled cannot be metered

    def __init__(self, limit: int) -> None:
        """`limit` is in bytes."""
        self.meter = Meter(limit)

    def free_bytes(self) -> int:
        """What is left under the limit."""
        return self.meter.limit - self.meter.taken

    def room_bytes(self) -> int:
        """The limit."""
        return self.meter.limit

    def peak_bytes(self) -> int:
        """As metered."""
        return self.meter.peak

    def reset_peak(self) -> None:
        """Begin anew."""
        self.meter.reset_peak()

    def empty(self) -> None:
        """Collect cycles, which may hold tensors."""
        gc.collect()

    def place(self, module: Module) -> None:
        """Count its weights."""
        self.meter.place(tensors_of(module))

    def take_off(self, module: Module) -> None:
        """Count them no longer."""
        self.meter.take_off(tensors_of(module))

    def stream(self, module: Module) -> Streamed:
        """Count its blocks while they compute."""
        return stream_counted(module, self.meter)

    def to_host(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy that is not counted."""
        with self._unmetered():
            return tensor.detach().clone()

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Count what is allocated."""
        with self.meter:
            yield

    @contextmanager
    def _unmetered(self) -> Iterator[None]:
        from torch.utils._python_dispatch import _disable_current_modes

        with _disable_current_modes():
            yield


class Card:
    """A graphics card, by torch's CUDA."""

    has_own_memory = True
    compiles = True

    def __init__(self, name: str, *, limit: int | None = None) -> None:
        """`limit` in bytes is the most it may take of the card."""
        self.name = name
        self._device = torch.device(name)
        self._host: dict[torch.Tensor, tuple[torch.Tensor, int]] = {}
        total = torch.cuda.get_device_properties(self._device).total_memory
        self._limit = min(limit or total, total)
        if limit is not None and limit < total:
            torch.cuda.set_per_process_memory_fraction(limit / total, self._device)

    def free_bytes(self) -> int:
        """Free on the card, and reserved by torch without being used."""
        free, _ = torch.cuda.mem_get_info(self._device)
        reserved = torch.cuda.memory_reserved(self._device)
        idle = reserved - torch.cuda.memory_allocated(self._device)
        return min(free + idle, self._limit - reserved + idle)

    def room_bytes(self) -> int:
        """Free and its own."""
        return self.free_bytes() + torch.cuda.memory_allocated(self._device)

    def peak_bytes(self) -> int:
        """What tensors took at most, and what blocks of memory are larger than their tensors.

        What torch reserved would be more exact for one task, but a larger one before it would
        count too, unless the reserve were given back between any two tasks, which takes time.
        """
        return int(torch.cuda.max_memory_allocated(self._device) * _FRAGMENTATION)

    def reset_peak(self) -> None:
        """Begin anew."""
        torch.cuda.reset_peak_memory_stats(self._device)

    def empty(self) -> None:
        """Collect cycles, which may hold tensors, and give back what is reserved."""
        gc.collect()
        torch.cuda.empty_cache()

    def place(self, module: Module) -> None:
        """Copy its weights; what they were copied from is kept, to save the way back."""
        try:
            for parameter in module.parameters():
                if parameter.device.type == "cpu":
                    original = parameter.data
                    parameter.data = original.to(self._device, non_blocking=True)
                    self._host[parameter] = (original, parameter._version)
            module.to(self._device)
        except torch.OutOfMemoryError:
            self.take_off(module)
            raise

    def take_off(self, module: Module) -> None:
        """Weights never change, so the host's are as good; unless an adapter was fused in."""
        for parameter in module.parameters():
            original, version = self._host.pop(parameter, (None, -1))
            if original is not None and parameter._version == version:
                parameter.data = original
        module.to("cpu")

    def stream(self, module: Module) -> Streamed:
        """By diffusers' group offloading, the next block fetched while one computes."""
        return stream_groups(module, self._device)

    def to_host(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy; waits for it."""
        return tensor.detach().to("cpu")

    def computing(self) -> Any:
        """Nothing to prepare."""
        return nullcontext()


class Apple:
    """Apple's GPU, which shares the host's memory but has a limit of its own."""

    name = "mps"
    has_own_memory = True
    compiles = False

    def __init__(self) -> None:
        """There is one."""
        self._peak = 0

    def free_bytes(self) -> int:
        """Of what the system recommends to take at most."""
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()

    def room_bytes(self) -> int:
        """What the system recommends to take at most."""
        return torch.mps.recommended_max_memory()

    def peak_bytes(self) -> int:
        """The largest that was seen between phases: the system keeps none."""
        self._peak = max(self._peak, torch.mps.driver_allocated_memory())
        return self._peak

    def reset_peak(self) -> None:
        """Begin anew."""
        self._peak = 0

    def empty(self) -> None:
        """Collect cycles and give back what is reserved."""
        self._peak = max(self._peak, torch.mps.driver_allocated_memory())
        gc.collect()
        torch.mps.empty_cache()

    def place(self, module: Module) -> None:
        """Copy its weights."""
        module.to(self.name)

    def take_off(self, module: Module) -> None:
        """Copy them back."""
        module.to("cpu")

    def stream(self, module: Module) -> Streamed:
        """By diffusers' group offloading."""
        return stream_groups(module, torch.device(self.name))

    def to_host(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy; waits for it."""
        return tensor.detach().to("cpu")

    def computing(self) -> Any:
        """Nothing to prepare."""
        return nullcontext()


def open_device(name: str, *, limit: int | None = None) -> Device:
    """The device torch calls `name`; with `limit` (bytes) it passes for one with that much.

    A CPU with a limit is a simulated card.
    """
    if name == "cpu":
        return Cpu() if limit is None else SimulatedCard(limit)
    if name == "mps":
        return Apple()
    return Card(name, limit=limit)


def move(row: Any, device: Device) -> Any:
    """What a phase made, in host memory: tensors, and whatever mappings and lists hold them."""
    if isinstance(row, torch.Tensor):
        return device.to_host(row)
    if isinstance(row, dict):
        return {name: move(value, device) for name, value in row.items()}
    if isinstance(row, (list, tuple)):
        return type(row)(move(value, device) for value in row)
    return row


def are_finite(values: Iterable[Any]) -> bool:
    """Whether all floating tensors among these are finite."""
    tensors = (v for v in values if isinstance(v, torch.Tensor) and v.is_floating_point())
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


if TYPE_CHECKING:
    _devices: tuple[Device, ...] = (Cpu(), SimulatedCard(0), Card(""), Apple())
