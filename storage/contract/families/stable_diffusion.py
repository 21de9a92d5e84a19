"""Stable Diffusion 1.x and 2.x."""

from __future__ import annotations

from typing import Final

from storage.contract.families.record import Family
from storage.contract.items import TEXT_TO_IMAGE

STABLE_DIFFUSION: Final = Family(
    name="stable-diffusion",
    title="Stable Diffusion 1.x and 2.x",
    pipelines={TEXT_TO_IMAGE: "StableDiffusionPipeline"},
    covers=("StableDiffusionPipeline",),
    denoiser="unet",
    text_encoders=(("tokenizer", "text_encoder"),),
    num_inference_steps=50,
    guidance_scale=7.5,
    size_multiple=8,
    min_size=8,
    denoise_bytes_per_pixel=520.0,
    decode_bytes_per_pixel=1536.0,
)
