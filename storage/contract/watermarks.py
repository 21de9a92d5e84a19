"""The invisible messages of the original scripts, and texts as bits.

Sources: CompVis/stable-diffusion ``scripts/txt2img.py`` and Stability-AI/stablediffusion
``scripts/txt2img.py`` (texts), Stability-AI/generative-models (SDXL, the one diffusers writes),
black-forest-labs/flux ``src/flux/util.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from storage.contract.models import ModelCard

Bits = tuple[int, ...]

_SD1: Final = "StableDiffusionV1"
_SD2: Final = "SDV2"
_SDXL: Final = 0b101100111110110010010000011110111011000110011110
_FLUX: Final = 0b001010101111111010000111100111001111010100101110

_SD1_LAYERS: Final = 12
"""Layers of the first generation's text encoder; that of the second has 23."""


def bits_of(text: str) -> Bits:
    """The text's bytes, highest bit first, as the watermark library writes them."""
    return tuple(_bits(text.encode()))


def family_bits(card: ModelCard) -> Bits | None:
    """The message that the original scripts of the model's family wrote; None: they wrote none."""
    pipeline = card.pipeline
    if pipeline.startswith("StableDiffusionXL"):
        return _digits(_SDXL)
    if pipeline.startswith("Flux"):
        return _digits(_FLUX)
    if pipeline.startswith("StableDiffusion") and not pipeline.startswith("StableDiffusion3"):
        return bits_of(_SD1 if card.text_layers <= _SD1_LAYERS else _SD2)
    return None


def _digits(message: int) -> Bits:
    """As the scripts have it: without leading zeros, so that FLUX's has 46 bits, not 48."""
    return tuple(int(digit) for digit in f"{message:b}")


def _bits(data: bytes) -> Iterator[int]:
    for byte in data:
        yield from (byte >> place & 1 for place in range(7, -1, -1))
