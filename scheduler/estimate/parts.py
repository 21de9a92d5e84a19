"""What each phase of a group needs: bytes of weights by component, and of activations. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from scheduler.estimate.companions import Beside, Companions, beside
from scheduler.estimate.pixels import computed_pixels
from storage.contract.capability import Mode
from storage.contract.families.record import Guidance
from storage.contract.items import UPSCALE, BatchShape, GroupSpec
from storage.contract.models import ModelCard

TILE_PIXELS: Final = 512 * 512
BLENDING_BYTES: Final = 24.0  # per pixel of the picture: its tiles and the whole, in float32

CONTROLNET_ACTIVATIONS: Final = 0.5
"""Of the denoiser's activations, what a ControlNet adds: it is the denoiser's first half."""

_WIDTH: Final = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0}
_QUANTIZED: Final = {"fp8": 1.0, "int8": 1.0, "int4": 0.56, "nf4": 0.56}  # bytes a parameter
ENCODE, CONDITION, DENOISE, DECODE = "encode", "condition", "denoise", "decode"


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One phase, or one text encoder of the first."""

    phase: str  #: encode, condition, denoise or decode
    weights: dict[str, float]  #: bytes by component
    streamed: float  #: bytes of weights on the device at once where blocks are streamed
    activations: float  #: bytes

    @property
    def total(self) -> float:
        """Bytes it needs alone."""
        return sum(self.weights.values()) + self.activations


def parts(
    card: ModelCard,
    spec: GroupSpec,
    mode: Mode,
    companions: Companions | None = None,
    *,
    batch: int = 0,
    tiled: bool = False,
) -> list[Part]:
    """The phases with their bytes, in order, without margin and overhead."""
    shape = spec.batch
    if 0 < batch < shape.denoise:
        shape = BatchShape(encode=shape.encode, denoise=batch, decode=min(batch, shape.decode))
    if tiled:
        shape = msgspec.structs.replace(shape, decode=1)
    sizes = _Sizes(card, spec, shape, on_cpu=mode.on_cpu, tiled=tiled)
    more = beside(card, spec, companions or Companions())
    return [*sizes.encoding(), *sizes.conditioning(more), sizes.denoising(more), sizes.decoding()]


class _Sizes:
    """Bytes of one group's phases at one shape."""

    def __init__(
        self, card: ModelCard, spec: GroupSpec, shape: BatchShape, *, on_cpu: bool, tiled: bool
    ) -> None:
        self._card, self._spec, self._shape = card, spec, shape
        self._family = card.family
        self._width = _WIDTH.get(spec.dtype, 4.0 if on_cpu else 2.0)
        self._wider = self._width / 2  # the constants are for 16 bit
        self._tiled = tiled
        self._pixels = computed_pixels(card, spec)
        own = self._family.decode_dtype == "float32"
        upcast = card.force_upcast and spec.dtype == "float16"
        self._decode_wider = 2.0 if upcast or own else self._wider
        # Such a VAE decodes in bfloat16, but SDXL's pipelines encode in float32 all the same.
        self._encode_wider = 2.0 if card.force_upcast or own else self._wider

    def encoding(self) -> Iterator[Part]:
        """One text encoder after the other."""
        family = self._family
        tokens = (self._spec.max_sequence_length or family.token_limit) * self._shape.encode
        activations = family.encode_bytes_per_token * tokens * self._wider
        for _, name in family.text_encoders:
            if name in self._card.parameters:
                yield self._part(ENCODE, (name,), activations)

    def conditioning(self, more: Beside) -> Iterator[Part]:
        """Input pictures: through the VAE's encoder, and what else the kind needs."""
        spec, family = self._spec, self._family
        if not (spec.needs_picture or spec.controlnets or spec.ip_adapter):
            return
        if spec.kind == UPSCALE:
            return  # its denoiser looks at the pixels themselves
        names = [n for n in (family.vae, *family.extras.get(spec.kind, ())) if self._has(n)]
        pixels = min(spec.pixels, TILE_PIXELS) if self._tiled else spec.pixels
        activations = family.encode_bytes_per_pixel * pixels * self._encode_wider
        part = self._part(CONDITION, tuple(names), activations, more=more.condition)
        yield self._in_float32(part, self._encode_wider)

    def denoising(self, more: Beside) -> Part:
        """The denoiser and what steers it, over one batch."""
        spec, family = self._spec, self._family
        each = family.denoise_bytes_per_pixel * self._pixels + family.denoise_bytes_fixed
        if family.guidance is Guidance.CLASSIFIER_FREE and spec.guidance_scale <= 1:
            each /= 2
        each *= 1 + CONTROLNET_ACTIVATIONS * len(spec.controlnets)
        images = 1 if family.one_by_one else self._shape.denoise
        activations = each * images * self._wider
        return self._part(DENOISE, (family.denoiser,), activations, more=more.denoise)

    def decoding(self) -> Part:
        """The VAE's decoder, over one slice."""
        family, pixels = self._family, self._pixels
        activations = family.decode_bytes_per_pixel * pixels * self._shape.decode
        if self._tiled:
            # A picture no larger than a tile is cut into four.
            tile = TILE_PIXELS if pixels > TILE_PIXELS else pixels / 4
            activations = family.decode_bytes_per_pixel * tile + BLENDING_BYTES * pixels
        part = self._part(DECODE, (family.vae,), activations * self._decode_wider)
        return self._in_float32(part, self._decode_wider)

    def _in_float32(self, part: Part, wider: float) -> Part:
        """A phase whose VAE is widened for it, if it is."""
        grown = max(1.0, wider / self._wider)
        vae = self._family.vae
        more = part.weights.get(vae, 0.0) * (grown - 1)
        weights = {n: size * grown if n == vae else size for n, size in part.weights.items()}
        return msgspec.structs.replace(part, weights=weights, streamed=part.streamed + more)

    def _part(
        self, phase: str, names: tuple[str, ...], activations: float, *, more: int = 0
    ) -> Part:
        there = [name for name in names if self._has(name)]
        weights = {name: self._card.parameters[name] * self._bytes_of(name) for name in there}
        streamed = sum(self._streamed(name) * self._bytes_of(name) for name in there)
        if more:
            weights[f"beside {phase}"] = more * self._width
        return Part(
            phase=phase,
            weights=weights,
            streamed=streamed + more * self._width,
            activations=activations,
        )

    def _has(self, name: str) -> bool:
        return name in self._card.parameters

    def _streamed(self, name: str) -> int:
        return self._card.streamed.get(name, self._card.parameters[name])

    def _bytes_of(self, name: str) -> float:
        quantized = self._spec.quantization
        if quantized is not None and name == self._family.denoiser:
            return _QUANTIZED.get(quantized, self._width)
        return self._width
