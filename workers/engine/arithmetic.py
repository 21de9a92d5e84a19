"""Which dtype a CPU computes large pictures fastest in; measured once a machine, and kept.

Processors with bfloat16 instructions are up to twice as fast in it, others slower than in
float32. float16 is slow on all of them, and never used. A worker of one thread renders small
pictures, for which it makes no difference (measured: 8 %), so it stays with float32.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import structlog

FILE: Final = "arithmetic.json"
WORTH: Final = 0.8
"""bfloat16 must take less than this share of float32's time: it costs precision."""

_CHANNELS, _SIDE, _ROUNDS = 320, 32, 3  # a block of Stable Diffusion's UNet

log = structlog.get_logger()


def cpu_dtypes(
    home: Path,
    *,
    processor: str,
    threads: int,
    measure: Callable[[str], float] | None = None,
) -> tuple[str, ...]:
    """Dtypes a CPU worker may use, best first; `measure` gives seconds for a dtype."""
    if threads == 1:
        return ("float32",)
    import torch

    key = f"{processor}, {threads} threads, torch {torch.__version__}"
    file = home / FILE
    known = _read(file)
    if key not in known:
        timed = {name: (measure or _seconds)(name) for name in ("float32", "bfloat16")}
        faster = timed["bfloat16"] < timed["float32"] * WORTH
        known[key] = "bfloat16" if faster else "float32"
        log.info("measured dtypes", action="dtypes_measured", seconds=timed, best=known[key])
        with suppress(OSError):  # it is measured again then
            file.write_text(json.dumps(known, indent=1))
    return ("bfloat16", "float32") if known[key] == "bfloat16" else ("float32",)


def _read(file: Path) -> dict[str, str]:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _seconds(dtype: str) -> float:
    """Seconds of the fastest of some rounds."""
    import torch

    kind = getattr(torch, dtype)
    convolution: Any = torch.nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1)
    convolution.to(kind, memory_format=torch.channels_last)
    linear = torch.nn.Linear(_CHANNELS, 4 * _CHANNELS, dtype=kind)
    picture = torch.zeros(2, _CHANNELS, _SIDE, _SIDE, dtype=kind)
    picture = picture.to(memory_format=torch.channels_last)
    best = float("inf")
    with torch.no_grad():
        for _ in range(_ROUNDS):
            started = time.perf_counter()
            places = convolution(picture).flatten(2).transpose(1, 2)
            torch.nn.functional.scaled_dot_product_attention(places, places, places)
            linear(places)
            best = min(best, time.perf_counter() - started)
    return best
