"""Stable Diffusion's x4 upscaler: the small picture is an input of the UNet itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from storage.contract.items import GroupSpec
from workers.engine.families import pictures
from workers.engine.families.base import Bench, Inputs, Row, Tensor
from workers.engine.families.classic import decode_kl
from workers.engine.families.stable_diffusion import StableDiffusion

if TYPE_CHECKING:
    from workers.engine.families.base import FamilyAdapter


class Upscale(StableDiffusion):
    """Makes a picture four times as wide and high; its prompt says what it shows."""

    def recorded_names(self, spec: GroupSpec) -> tuple[str, ...]:
        """None: the UNet is given the pixels."""
        return ()

    def _conditioned(self, bench: Bench, slot: Inputs) -> Row:
        return {"image": pictures.kept(slot.image)}

    def picture_options(self, bench: Bench, rows: Sequence[Row]) -> dict[str, Any]:
        """The small pictures and the noise laid over them."""
        options: dict[str, Any] = {"image": pictures.restored(rows, "image")}
        if bench.spec.noise_level is not None:
            options["noise_level"] = bench.spec.noise_level
        return options

    def stepping(self, on_step: Callable[[int], None]) -> dict[str, Any]:
        """This pipeline has the older kind of callback."""
        return {"callback": lambda step, _timestep, _latents: on_step(step + 1)}

    def decode(self, bench: Bench, latents: Tensor) -> Tensor:
        """Shape (n, 3, height, width); a VAE that overflows in float16 computes in float32."""
        return in_float32_if_needed(bench.pipeline.vae, latents, decode_kl)


def in_float32_if_needed(
    vae: Any, latents: Tensor, decode: Callable[[Any, Tensor], Tensor]
) -> Tensor:
    """`decode` in float32 where the VAE lies in float16 and its config says it overflows."""
    import torch

    if vae.dtype != torch.float16 or not vae.config.force_upcast:
        return decode(vae, latents)
    vae.to(dtype=torch.float32)
    try:
        return decode(vae, latents)
    finally:
        vae.to(dtype=torch.float16)


if TYPE_CHECKING:
    _adapter: FamilyAdapter = Upscale()
