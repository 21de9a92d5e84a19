"""The list of all families."""

from __future__ import annotations

from typing import Final

from storage.contract.families.flux import FLUX
from storage.contract.families.flux2 import FLUX_2, FLUX_2_KLEIN
from storage.contract.families.pixart import PIXART_ALPHA, PIXART_SIGMA
from storage.contract.families.qwen_image import QWEN_IMAGE
from storage.contract.families.record import Family
from storage.contract.families.sana import SANA, SANA_SPRINT
from storage.contract.families.stable_diffusion import (
    LATENT_CONSISTENCY,
    STABLE_DIFFUSION,
    STABLE_DIFFUSION_DEPTH,
    STABLE_DIFFUSION_INPAINTING,
    STABLE_DIFFUSION_UPSCALER,
)
from storage.contract.families.stable_diffusion_3 import STABLE_DIFFUSION_3
from storage.contract.families.stable_diffusion_xl import (
    STABLE_DIFFUSION_XL,
    STABLE_DIFFUSION_XL_INPAINTING,
    STABLE_DIFFUSION_XL_REFINER,
)
from storage.contract.families.z_image import Z_IMAGE

FAMILIES: Final[tuple[Family, ...]] = (
    STABLE_DIFFUSION,
    STABLE_DIFFUSION_INPAINTING,
    STABLE_DIFFUSION_DEPTH,
    STABLE_DIFFUSION_UPSCALER,
    LATENT_CONSISTENCY,
    STABLE_DIFFUSION_XL,
    STABLE_DIFFUSION_XL_INPAINTING,
    STABLE_DIFFUSION_XL_REFINER,
    STABLE_DIFFUSION_3,
    FLUX,
    FLUX_2,
    FLUX_2_KLEIN,
    PIXART_ALPHA,
    PIXART_SIGMA,
    SANA,
    SANA_SPRINT,
    QWEN_IMAGE,
    Z_IMAGE,
)


def family_of(pipeline_class: str) -> Family | None:
    """The family whose models name `pipeline_class` in their model_index.json, or None."""
    return next((f for f in FAMILIES if pipeline_class in f.covers), None)
