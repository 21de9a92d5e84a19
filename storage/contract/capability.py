"""What a worker has and what a group needs, in the same units: bytes."""

from __future__ import annotations

import math
from enum import StrEnum
from hashlib import blake2b
from typing import Final, Protocol

import msgspec

from storage.contract.classes import class_of


class Mode(StrEnum):
    """How a task is laid over the device's memory, from fast to small."""

    RESIDENT = "resident"  #: every component on the device
    LEAN = "lean"  #: text encoders dropped after encoding; denoiser and decoder stay
    PHASED = "phased"  #: one component at a time
    OFFLOAD = "offload"  #: the denoiser's blocks streamed from host memory
    CPU = "cpu"  #: no device memory at all
    CPU_PHASED = "cpu-phased"  #: on a CPU, one component in host memory at a time

    @property
    def on_cpu(self) -> bool:
        """Whether it is a CPU's: its need is of host memory."""
        return self in (Mode.CPU, Mode.CPU_PHASED)


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


class ModeNeed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Memory one rung needs: a mode at the group's batch shape, or at a lesser one.

    A lesser shape changes bits of the pictures, so it stands behind what leaves them alone, and
    is recorded on every image.
    """

    mode: Mode
    memory_bytes: int
    batch: int = 0  #: images denoised at once; 0: as the group's batch shape says
    tiled: bool = False  #: pictures are decoded in tiles


class Seen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was seen of one rung on one kind of device."""

    mode: Mode
    batch: int = 0  #: as `ModeNeed.batch`
    tiled: bool = False
    peak_bytes: int = 0  #: largest memory it took where it was rendered; 0: never rendered
    failed_bytes: int = 0  #: largest memory in which it ran out; 0: never did


class Requirements(msgspec.Struct, frozen=True, kw_only=True):
    """What a group needs, rung by rung, best first. A CPU's need is of host memory."""

    modes: tuple[ModeNeed, ...]
    disk_bytes: int = 0  #: to hold the model's files
    tflop_per_image: float = 0.0  #: arithmetic of one image, for guessing time before measuring

    def fit(self, device: Device) -> ModeNeed | None:
        """The best rung that fits this device, or None."""
        on_cpu = device.vram_bytes == 0
        room = device.ram_bytes if on_cpu else device.vram_bytes
        for need in self.modes:
            if need.mode.on_cpu == on_cpu and need.memory_bytes <= room:
                return need
        return None

    @property
    def fit_key(self) -> str:
        """Equal for needs that the same workers fit, whatever the arithmetic."""
        text = " ".join(f"{need.mode}:{need.memory_bytes}" for need in self.modes)
        return blake2b(f"{text} {self.disk_bytes}".encode(), digest_size=8).hexdigest()

    def smallest(self, *, on_cpu: bool) -> ModeNeed | None:
        """The least demanding rung of a CPU or of a GPU, for saying why nothing fits."""
        needs = [n for n in self.modes if n.mode.on_cpu == on_cpu]
        return min(needs, key=lambda n: n.memory_bytes, default=None)


PEAK_MARGIN: Final = 1.03
"""What is asked for over a measured peak: allocators do not repeat themselves to the byte."""


def fitted(needs: Requirements, seen: tuple[Seen, ...]) -> Requirements:
    """`needs` corrected by what was seen on the kind of device in question.

    A measured peak, with a small margin, takes the place of the formula for its rung, and is a
    ceiling for the lesser rungs of its mode. Where a rung ran out of memory, it and the greater
    ones of its mode need more than there was.
    """
    if not seen:
        return needs
    corrected = tuple(
        msgspec.structs.replace(need, memory_bytes=_corrected(need, seen)) for need in needs.modes
    )
    return msgspec.structs.replace(needs, modes=corrected)


def _corrected(need: ModeNeed, seen: tuple[Seen, ...]) -> int:
    memory = need.memory_bytes
    own = [one for one in seen if one.mode is need.mode]
    peaks = {(one.batch, one.tiled): one.peak_bytes for one in own if one.peak_bytes}
    exact = peaks.get((need.batch, need.tiled))
    if exact is not None:
        memory = int(exact * PEAK_MARGIN)
    else:
        above = [one.peak_bytes for one in own if one.peak_bytes and _is_lesser(need, one)]
        memory = min([memory, *(int(peak * PEAK_MARGIN) for peak in above)])
    failed = [one.failed_bytes for one in own if one.failed_bytes and _is_lesser(one, need)]
    return max([memory, *(room + 1 for room in failed)])


def _is_lesser(one: ModeNeed | Seen, other: ModeNeed | Seen) -> bool:
    """Whether `one` cannot need more than `other`, another rung of its mode, or is the same."""
    return _rows(one) <= _rows(other) and one.tiled >= other.tiled


def _rows(rung: ModeNeed | Seen) -> float:
    return rung.batch or math.inf
