"""From decoded values to bytes, and what is wrong with a picture."""

from __future__ import annotations

import torch

from workers.engine.families.base import Tensor
from workers.engine.ports import Pixels


def to_bytes(decoded: Tensor) -> Pixels:
    """As diffusers' image processor: clamp, scale, round half to even."""
    return decoded.clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()


def fault_of(pixels: Pixels) -> str | None:
    """A picture of one value throughout is none."""
    lowest = pixels.min()
    return f"every value is {int(lowest)}" if lowest == pixels.max() else None
