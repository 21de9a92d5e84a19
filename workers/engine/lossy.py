"""Accelerations that change pixels visibly: done only where a group asks, and recorded."""

from __future__ import annotations

from typing import Any

import structlog

from storage.contract.errors import ModelUnusable
from storage.contract.items import GroupSpec

log = structlog.get_logger()

FP8 = "fp8"
FIRST_BLOCK = "first-block"
TAYLOR_SEER = "taylorseer"


def lossy_of(spec: GroupSpec) -> tuple[str, ...]:
    """What a group asks for, as it is recorded."""
    asked = (("quantization", spec.quantization), ("cache", spec.cache))
    return tuple(f"{name} {value}" for name, value in asked if value is not None)


def accelerate(denoiser: Any, spec: GroupSpec, dtype: str) -> Any:
    """The denoiser as the group wants it: quantized, or with a cache over its steps.

    `ModelUnusable` says what this version or this model cannot do.
    """
    import torch

    if spec.quantization is not None:
        if spec.quantization != FP8:
            raise ModelUnusable(
                f"quantization {spec.quantization!r} is not among what this version can do: {FP8}"
            )
        denoiser.enable_layerwise_casting(
            storage_dtype=torch.float8_e4m3fn, compute_dtype=getattr(torch, dtype)
        )
    if spec.cache is not None:
        _cache(denoiser, spec.cache)
    if lossy_of(spec):
        log.info("the group asks for less than full quality", action="lossy", how=lossy_of(spec))
    return denoiser


def _cache(denoiser: Any, name: str) -> None:
    from diffusers import FirstBlockCacheConfig, TaylorSeerCacheConfig

    configs = {FIRST_BLOCK: FirstBlockCacheConfig, TAYLOR_SEER: TaylorSeerCacheConfig}
    if name not in configs:
        raise ModelUnusable(
            f"cache {name!r} is not among what this version can do: {', '.join(configs)}"
        )
    if not hasattr(denoiser, "enable_cache"):
        raise ModelUnusable(
            f"{type(denoiser).__name__} takes no cache", hint="only transformers do; leave it away"
        )
    denoiser.enable_cache(configs[name]())
