"""Checkpoints that are one file in their authors' own layout: which model it is, by its header.

Pure: from tensors' names and shapes. The names are those that diffusers tells them apart by
(loaders/single_file_utils.py: 62 and 604 in 0.42.1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes by tensor name."""

_UNET: Final = "model.diffusion_model."
_IN: Final = _UNET + "input_blocks.0.0.weight"
_CROSS: Final = _UNET + "input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight"
_V1_CLIP: Final = "cond_stage_model.transformer."
_V2_CLIP: Final = "cond_stage_model.model."
_XL_SECOND: Final = "conditioner.embedders.1.model."
_XL_REFINER: Final = "conditioner.embedders.0.model."
_SD3_BLOCK: Final = "joint_blocks.0.context_block.adaLN_modulation.1.bias"
_FLUX_BLOCK: Final = "double_blocks.0.img_attn.norm.key_norm.scale"
_VAE: Final = ("first_stage_model.", "vae.")

INPAINTING_CHANNELS: Final = 9
UPSCALER_CHANNELS: Final = 7
V2_WIDTH: Final = 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Original:
    """One kind of checkpoint."""

    name: str
    pipeline: str  #: diffusers class
    base: str  #: hub id of the repository whose configs it has
    prefixes: Mapping[str, tuple[str, ...]]  #: how the tensors of each component begin
    side: int  #: default width and height
    latent_scale: int = 8
    prediction_type: str | None = "epsilon"
    force_upcast: bool = False

    def missing(self, shapes: Shapes) -> list[str]:
        """Components of which the file has nothing."""
        return [name for name, found in self.parameters(shapes).items() if not found]

    def parameters(self, shapes: Shapes) -> dict[str, int]:
        """Per component."""
        return {
            name: sum(math.prod(s) for key, s in shapes.items() if key.startswith(starts))
            for name, starts in self.prefixes.items()
        }


_V1_PARTS: Final = {"text_encoder": (_V1_CLIP,), "unet": (_UNET,), "vae": _VAE}
_V2_PARTS: Final = {"text_encoder": (_V2_CLIP,), "unet": (_UNET,), "vae": _VAE}
_XL_PARTS: Final = {
    "text_encoder": ("conditioner.embedders.0.transformer.",),
    "text_encoder_2": (_XL_SECOND,),
    "unet": (_UNET,),
    "vae": _VAE,
}
_REFINER_PARTS: Final = {"text_encoder_2": (_XL_REFINER,), "unet": (_UNET,), "vae": _VAE}
_SD3_PARTS: Final = {
    "text_encoder": ("text_encoders.clip_l.",),
    "text_encoder_2": ("text_encoders.clip_g.",),
    "text_encoder_3": ("text_encoders.t5xxl.",),
    "transformer": (_UNET, "joint_blocks.", "x_embedder."),
    "vae": _VAE,
}
_FLUX_PARTS: Final = {
    "text_encoder": ("text_encoders.clip_l.",),
    "text_encoder_2": ("text_encoders.t5xxl.",),
    "transformer": (_UNET, "double_blocks.", "single_blocks."),
    "vae": _VAE,
}


def _sd(
    name: str, kind: str, base: str, parts: Mapping[str, tuple[str, ...]], side: int
) -> Original:
    pipeline = f"StableDiffusion{kind}Pipeline"
    return Original(name=name, pipeline=pipeline, base=base, prefixes=parts, side=side)


_RUNWAY: Final = "stable-diffusion-v1-5/stable-diffusion"
ORIGINALS: Final[dict[str, Original]] = {
    one.name: one
    for one in (
        _sd("v1", "", f"{_RUNWAY}-v1-5", _V1_PARTS, 512),
        _sd("inpainting", "Inpaint", f"{_RUNWAY}-inpainting", _V1_PARTS, 512),
        Original(
            name="v2",
            pipeline="StableDiffusionPipeline",
            base="stabilityai/stable-diffusion-2-1",
            prefixes=_V2_PARTS,
            side=768,
            prediction_type="v_prediction",
        ),
        _sd(
            "inpainting_v2", "Inpaint", "stabilityai/stable-diffusion-2-inpainting", _V2_PARTS, 512
        ),
        Original(
            name="upscale",
            pipeline="StableDiffusionUpscalePipeline",
            base="stabilityai/stable-diffusion-x4-upscaler",
            prefixes=_V2_PARTS,
            side=512,
            latent_scale=4,
            prediction_type="v_prediction",
            force_upcast=True,
        ),
        Original(
            name="xl_base",
            pipeline="StableDiffusionXLPipeline",
            base="stabilityai/stable-diffusion-xl-base-1.0",
            prefixes=_XL_PARTS,
            side=1024,
            force_upcast=True,
        ),
        Original(
            name="xl_inpaint",
            pipeline="StableDiffusionXLInpaintPipeline",
            base="diffusers/stable-diffusion-xl-1.0-inpainting-0.1",
            prefixes=_XL_PARTS,
            side=1024,
            force_upcast=True,
        ),
        Original(
            name="xl_refiner",
            pipeline="StableDiffusionXLImg2ImgPipeline",
            base="stabilityai/stable-diffusion-xl-refiner-1.0",
            prefixes=_REFINER_PARTS,
            side=1024,
            force_upcast=True,
        ),
        Original(
            name="sd3",
            pipeline="StableDiffusion3Pipeline",
            base="stabilityai/stable-diffusion-3.5-medium",
            prefixes=_SD3_PARTS,
            side=1024,
            prediction_type=None,
        ),
        Original(
            name="flux",
            pipeline="FluxPipeline",
            base="black-forest-labs/FLUX.1-dev",
            prefixes=_FLUX_PARTS,
            side=1024,
            prediction_type=None,
        ),
    )
}


def recognise(shapes: Shapes) -> Original | None:
    """Which kind of checkpoint has tensors of these names and shapes, or None."""
    name = _transformer(shapes) or _unet(shapes)
    return ORIGINALS[name] if name else None


def _transformer(shapes: Shapes) -> str | None:
    if _SD3_BLOCK in shapes or _UNET + _SD3_BLOCK in shapes:
        return "sd3"
    if _FLUX_BLOCK in shapes or _UNET + _FLUX_BLOCK in shapes:
        return "flux"
    return None


def _unet(shapes: Shapes) -> str | None:
    if _IN not in shapes or len(shapes[_IN]) != 4:
        return None
    inpaints = shapes[_IN][1] == INPAINTING_CHANNELS
    if any(key.startswith(_XL_SECOND) for key in shapes):
        return "xl_inpaint" if inpaints else "xl_base"
    if any(key.startswith(_XL_REFINER) for key in shapes):
        return "xl_refiner"
    if shapes[_IN][1] == UPSCALER_CHANNELS:
        return "upscale"
    if any(key.startswith(_V2_CLIP) for key in shapes) or _width(shapes) == V2_WIDTH:
        return "inpainting_v2" if inpaints else "v2"
    return "inpainting" if inpaints else "v1"


def _width(shapes: Shapes) -> int | None:
    """Of the text embeddings the UNet looks at."""
    return shapes[_CROSS][-1] if shapes.get(_CROSS) else None
