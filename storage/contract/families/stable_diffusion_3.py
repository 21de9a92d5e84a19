"""Stable Diffusion 3 and 3.5."""

from __future__ import annotations

from typing import Final

from storage.contract.families.record import Family, SamplerSet
from storage.contract.items import IMAGE_TO_IMAGE, INPAINT, TEXT_TO_IMAGE

STABLE_DIFFUSION_3: Final = Family(
    name="stable-diffusion-3",
    title="Stable Diffusion 3 and 3.5",
    pipelines={
        TEXT_TO_IMAGE: "StableDiffusion3Pipeline",
        IMAGE_TO_IMAGE: "StableDiffusion3Img2ImgPipeline",
        INPAINT: "StableDiffusion3InpaintPipeline",
    },
    covers=(
        "StableDiffusion3Pipeline",
        "StableDiffusion3Img2ImgPipeline",
        "StableDiffusion3InpaintPipeline",
    ),
    denoiser="transformer",
    text_encoders=(
        ("tokenizer", "text_encoder"),
        ("tokenizer_2", "text_encoder_2"),
        ("tokenizer_3", "text_encoder_3"),
    ),
    controlnet_pipelines={TEXT_TO_IMAGE: "StableDiffusion3ControlNetPipeline"},
    loras=True,
    samplers=SamplerSet.FLOW,
    num_inference_steps=28,
    guidance_scale=7.0,
    strength=0.6,
    inpaint_strength=0.6,
    side=1024,
    size_multiple=16,
    min_size=16,
    encode_bytes_per_token=188_000.0,  # the T5-XXL, one text of 512 tokens
    denoise_bytes_per_pixel=347.0,  # of 3.5 medium
    decode_bytes_per_pixel=1537.0,
)
