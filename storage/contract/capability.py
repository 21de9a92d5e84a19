"""What a worker has and what a group needs, in the same units: bytes."""

from __future__ import annotations

from enum import StrEnum
from hashlib import blake2b
from typing import Protocol

import msgspec

from storage.contract.classes import class_of


class Mode(StrEnum):
    """How a task is laid over the device's memory, from fast to small."""

    RESIDENT = "resident"  #: every component on the device
    LEAN = "lean"  #: text encoders dropped after encoding; denoiser and decoder stay
    PHASED = "phased"  #: one component at a time
    OFFLOAD = "offload"  #: the denoiser's blocks streamed from host memory
    CPU = "cpu"  #: no device memory at all


class Device(Protocol):
    """What decides fit and speed: of one worker's device, or of a kind that many have."""

    @property
    def vram_bytes(self) -> int:
        """The device's own memory; 0 for a CPU."""

    @property
    def ram_bytes(self) -> int:
        """Host memory for one worker."""

    @property
    def threads(self) -> int:
        """CPU threads of one worker."""


class Capability(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker process has. Reported at registration, kept in the worker's row."""

    device: str  #: torch's name: "cpu", "cuda:0", "mps"
    kind: str  #: what pixels depend on: "cpu/1" (threads) or the card's name
    name: str  #: for people: the processor's or card's full name
    vram_bytes: int = 0  #: the device's own memory this worker may use; 0 for a CPU
    ram_bytes: int  #: host memory this worker may use
    disk_bytes: int = 0  #: free space where models are kept
    dtypes: tuple[str, ...] = ("float32",)  #: usable, best first
    threads: int = 1  #: CPU threads it computes with
    host: str = ""
    queue_class: str | None = None  #: the class whose tickets wake it, if it takes tickets

    @property
    def vram_class(self) -> str:
        """The label of its queue. A card that others use too has less free than its label."""
        return self.queue_class or class_of(self.vram_bytes)


class ModeNeed(msgspec.Struct, frozen=True, kw_only=True):
    """Memory one mode needs at the group's batch shape."""

    mode: Mode
    memory_bytes: int


class Requirements(msgspec.Struct, frozen=True, kw_only=True):
    """What a group needs, per mode, fastest first. The CPU's need is of host memory."""

    modes: tuple[ModeNeed, ...]
    disk_bytes: int = 0  #: to hold the model's files
    tflop_per_image: float = 0.0  #: arithmetic of one image, for guessing time before measuring

    def fit(self, device: Device) -> ModeNeed | None:
        """The fastest mode that fits this device, or None."""
        on_cpu = device.vram_bytes == 0
        room = device.ram_bytes if on_cpu else device.vram_bytes
        for need in self.modes:
            if (need.mode is Mode.CPU) == on_cpu and need.memory_bytes <= room:
                return need
        return None

    @property
    def fit_key(self) -> str:
        """Equal for needs that the same workers fit, whatever the arithmetic."""
        text = " ".join(f"{need.mode}:{need.memory_bytes}" for need in self.modes)
        return blake2b(f"{text} {self.disk_bytes}".encode(), digest_size=8).hexdigest()

    def smallest(self, *, on_cpu: bool) -> ModeNeed | None:
        """The least demanding mode of a CPU or of a GPU, for saying why nothing fits."""
        needs = [n for n in self.modes if (n.mode is Mode.CPU) == on_cpu]
        return min(needs, key=lambda n: n.memory_bytes, default=None)
