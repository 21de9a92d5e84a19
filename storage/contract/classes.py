"""VRAM classes: the label of a range of capabilities, and the unit of queueing.

A worker is in the largest class whose VRAM it has. Cards report a little less than their
nominal size (an "8 GB" card about 7.6 to 8.0 GiB), so a class starts at 92 % of its label.
"""

from __future__ import annotations

from typing import Final

GIB: Final = 1024**3

#: Label to nominal GiB, ascending. `cpu` has no VRAM at all.
VRAM_CLASSES: Final[dict[str, int]] = {
    "cpu": 0,
    "gpu4": 4,
    "gpu6": 6,
    "gpu8": 8,
    "gpu12": 12,
    "gpu16": 16,
    "gpu24": 24,
    "gpu32": 32,
    "gpu48": 48,
    "gpu80": 80,
    "gpu141": 141,
}

_NOMINAL_SHARE: Final = 0.92
QUEUE_PREFIX: Final = "render.v1."


def class_of(vram_bytes: int) -> str:
    """The VRAM class of a device with `vram_bytes` of its own memory (0: a CPU).

    A GPU below the smallest class is still `gpu4`: what it can render is decided by its bytes.
    """
    if vram_bytes <= 0:
        return "cpu"
    label = "gpu4"
    for name, nominal in VRAM_CLASSES.items():
        if nominal and vram_bytes >= nominal * GIB * _NOMINAL_SHARE:
            label = name
    return label


def queue_of(vram_class: str) -> str:
    """The broker queue whose tickets wake workers of `vram_class`."""
    if vram_class not in VRAM_CLASSES:
        raise ValueError(f"no VRAM class {vram_class!r}; there are: {', '.join(VRAM_CLASSES)}")
    return QUEUE_PREFIX + vram_class
