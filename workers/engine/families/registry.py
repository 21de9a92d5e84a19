"""Which adapter renders which family."""

from __future__ import annotations

from typing import Final

from storage.contract.families.record import Family
from workers.engine.families.base import FamilyAdapter
from workers.engine.families.flux import Flux
from workers.engine.families.flux2 import Flux2, Flux2Klein
from workers.engine.families.pixart import PixArt, PixArtAlpha
from workers.engine.families.qwen_image import QwenImage
from workers.engine.families.sana import Sana, SanaSprint
from workers.engine.families.stable_diffusion import (
    DepthToImage,
    LatentConsistency,
    StableDiffusion,
)
from workers.engine.families.stable_diffusion_3 import StableDiffusion3
from workers.engine.families.stable_diffusion_xl import Refiner, StableDiffusionXL
from workers.engine.families.upscale import Upscale
from workers.engine.families.z_image import ZImage

ADAPTERS: Final[dict[str, FamilyAdapter]] = {
    "stable-diffusion": StableDiffusion(),
    "stable-diffusion-inpainting": StableDiffusion(sees_masked=True),
    "stable-diffusion-depth": DepthToImage(),
    "stable-diffusion-upscaler": Upscale(),
    "latent-consistency": LatentConsistency(),
    "stable-diffusion-xl": StableDiffusionXL(),
    "stable-diffusion-xl-inpainting": StableDiffusionXL(sees_masked=True),
    "stable-diffusion-xl-refiner": Refiner(),
    "stable-diffusion-3": StableDiffusion3(),
    "flux": Flux(),
    "flux-2": Flux2(),
    "flux-2-klein": Flux2Klein(),
    "pixart-alpha": PixArtAlpha(),
    "pixart-sigma": PixArt(),
    "sana": Sana(),
    "sana-sprint": SanaSprint(),
    "qwen-image": QwenImage(),
    "z-image": ZImage(),
}
"""By the name of the family's record."""


def adapter_of(family: Family) -> FamilyAdapter:
    """The adapter of `family`; every record has one (a test sees to it)."""
    return ADAPTERS[family.name]
