"""The memory ladder: what to try next after the device was out of memory. Pure.

First what leaves the pixels alone and costs little (text encoders off after encoding, then one
component at a time); then a smaller batch and decoding in tiles, whichever helps where the
memory ran out; last the denoiser's blocks streamed, which is slow. A lesser shape changes the
last bits of pixels, so every step is recorded on the images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from storage.contract.capability import Mode, ModeNeed
from storage.contract.items import BatchShape
from workers.engine.families.base import Phase

_NEXT: Final = {
    Mode.RESIDENT: Mode.LEAN,
    Mode.LEAN: Mode.PHASED,
    Mode.CPU: Mode.CPU_PHASED,
}

_SHAPES: Final = ("encode", "batch", "decode")
"""First words of the steps to a lesser shape."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rung:
    """A mode, the shapes its phases compute at, and how it came to that."""

    mode: Mode
    shape: BatchShape
    whole: BatchShape  #: the group's own
    tiled: bool = False
    steps: tuple[str, ...] = ()

    def stepped(self, step: str, **changes: object) -> Rung:
        """Another rung, one step further down."""
        return replace(self, steps=(*self.steps, step), **changes)  # type: ignore[arg-type]


def first_rung(need: ModeNeed, shape: BatchShape) -> Rung:
    """Where a claim begins: `need.batch` and `need.tiled` are steps that were learned before."""
    rung = Rung(mode=need.mode, shape=shape, whole=shape)
    if 0 < need.batch < shape.denoise:
        rung = _with_denoise(rung, need.batch)
    return _tiled(rung) if need.tiled else rung


def next_rung(rung: Rung, phase: Phase | None) -> Rung | None:
    """The next rung after `phase` ran out of memory, or None.

    `phase` is None where the weights alone did not fit.
    """
    if rung.mode in _NEXT:
        mode = _NEXT[rung.mode]
        return rung.stepped(f"mode {mode}", mode=mode)
    if phase is not None:
        smaller = _smaller(rung, phase)
        if smaller is not None:
            return smaller
    streams = phase in (None, Phase.ENCODE, Phase.DENOISE)
    if rung.mode is Mode.PHASED and streams:
        return _streaming(rung)
    return None


def _streaming(rung: Rung) -> Rung:
    """Streaming, at the group's own shape again: each pass over the blocks serves more images."""
    shape = rung.whole if not rung.tiled else _shaped(rung.whole, decode=1)
    steps = tuple(step for step in rung.steps if step.partition(" ")[0] not in _SHAPES)
    return replace(rung, mode=Mode.OFFLOAD, shape=shape, steps=(*steps, f"mode {Mode.OFFLOAD}"))


def _smaller(rung: Rung, phase: Phase) -> Rung | None:
    """Less at once in the phase that ran out."""
    shape = rung.shape
    match phase:
        case Phase.ENCODE if shape.encode > 1:
            size = shape.encode // 2
            return rung.stepped(f"encode {size}", shape=_shaped(shape, encode=size))
        case Phase.CONDITION | Phase.DENOISE if shape.denoise > 1:
            return _with_denoise(rung, shape.denoise // 2)
        case Phase.DECODE if shape.decode > 1:
            size = shape.decode // 2
            return rung.stepped(f"decode {size}", shape=_shaped(shape, decode=size))
        case Phase.DECODE | Phase.CONDITION if not rung.tiled:
            return _tiled(rung)
    return None


def _with_denoise(rung: Rung, size: int) -> Rung:
    shape = _shaped(rung.shape, denoise=size, decode=min(rung.shape.decode, size))
    return rung.stepped(f"batch {size}", shape=shape)


def _tiled(rung: Rung) -> Rung:
    return rung.stepped("tiled", tiled=True, shape=_shaped(rung.shape, decode=1))


def _shaped(
    shape: BatchShape,
    *,
    encode: int | None = None,
    denoise: int | None = None,
    decode: int | None = None,
) -> BatchShape:
    return BatchShape(
        encode=shape.encode if encode is None else encode,
        denoise=shape.denoise if denoise is None else denoise,
        decode=shape.decode if decode is None else decode,
    )
