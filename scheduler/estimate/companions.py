"""What lies on the device beside the model: ControlNets, adapters, a second stage. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from storage.contract.items import GroupSpec
from storage.contract.models import ModelCard

CONTROLNET_SHARE: Final = 0.45
"""Of the denoiser's parameters, a ControlNet's: 361 M of Stable Diffusion 1.5's 860 M, 1.25 B of
SDXL's 2.57 B."""

LORA_SHARE: Final = 0.05
"""Of the denoiser's parameters, a LoRA's of a usual rank."""

IP_ADAPTER: Final = 30_000_000
IMAGE_ENCODER: Final = 632_076_800
"""Parameters of an IP-Adapter's projections and of the CLIP-H vision model it comes with."""

UPSCALER: Final = {"text_encoder": 340_387_840, "unet": 473_398_020, "vae": 55_325_927}
"""Parameters of the Stable Diffusion x4 upscaler, where the second stage's card is not at hand."""


class Companions(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of what a group names beside its model; None: not looked up, so guessed."""

    controlnets: int | None = None  #: of all of them
    loras: int | None = None  #: of all of them
    ip_adapter: int | None = None
    image_encoder: int | None = None
    upscaler: ModelCard | None = None


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters beside the model's own, by the phase that needs them."""

    denoise: int
    condition: int


def beside(card: ModelCard, spec: GroupSpec, known: Companions) -> Beside:
    """What the group's ControlNets and adapters add; guessed from the denoiser where unknown."""
    denoiser = card.parameters.get(card.family.denoiser, 0)
    denoise = condition = 0
    if spec.controlnets:
        guess = int(denoiser * CONTROLNET_SHARE) * len(spec.controlnets)
        denoise += guess if known.controlnets is None else known.controlnets
    if spec.loras:
        guess = int(denoiser * LORA_SHARE) * len(spec.loras)
        denoise += guess if known.loras is None else known.loras
    if spec.ip_adapter is not None:
        denoise += IP_ADAPTER if known.ip_adapter is None else known.ip_adapter
        condition += IMAGE_ENCODER if known.image_encoder is None else known.image_encoder
    return Beside(denoise=denoise, condition=condition)
