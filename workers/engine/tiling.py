"""Decoding in tiles where memory is tight.

A VAE tiles only above its own tile's size, which released models set as large as their pictures,
so the size is set here (autoencoder_kl.py: 133-139 and 200 in diffusers 0.42.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from workers.engine.families.base import Bench
from workers.engine.ladder import Rung

TILE: Final = 512
"""Pixels an edge of a tile has."""

_SIZES: Final = (
    "tile_sample_min_size",
    "tile_latent_min_size",
    "tile_sample_min_height",
    "tile_sample_min_width",
    "tile_sample_stride_height",
    "tile_sample_stride_width",
)


@contextmanager
def tiling(bench: Bench, rung: Rung, *, sliced: bool) -> Iterator[None]:
    """The bench's VAE in tiles if the rung says so; `sliced`: encode picture by picture."""
    vae = getattr(bench.pipeline, "vae", None)
    if vae is None or not hasattr(vae, "enable_tiling"):
        yield
        return
    before = {name: getattr(vae, name) for name in _SIZES if hasattr(vae, name)}
    try:
        if sliced and hasattr(vae, "enable_slicing"):
            vae.enable_slicing()
        if rung.tiled:
            vae.enable_tiling()
            _set_tile(vae, tile_edge(bench.spec.width, bench.spec.height))
        yield
    finally:
        vae.disable_tiling()
        if hasattr(vae, "disable_slicing"):
            vae.disable_slicing()
        for name, value in before.items():
            setattr(vae, name, value)


def tile_edge(width: int, height: int) -> int:
    """Pixels of a tile's edge: half the picture's where that is smaller than a tile."""
    side = max(width, height)
    return TILE if side > TILE else max(16, side // 2 // 8 * 8)


def _set_tile(vae: Any, edge: int) -> None:
    if hasattr(vae, "tile_latent_min_size"):
        scale = 2 ** (len(vae.config.block_out_channels) - 1)
        vae.tile_sample_min_size = edge
        vae.tile_latent_min_size = max(1, edge // scale)
        return
    for name in ("tile_sample_min_height", "tile_sample_min_width"):
        if hasattr(vae, name):
            setattr(vae, name, min(edge, getattr(vae, name)))
    for name in ("tile_sample_stride_height", "tile_sample_stride_width"):
        if hasattr(vae, name):
            setattr(vae, name, min(edge * 3 // 4, getattr(vae, name)))
