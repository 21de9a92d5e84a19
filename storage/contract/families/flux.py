"""FLUX.1 dev and schnell."""

from __future__ import annotations

from typing import Final

from storage.contract.families.record import Family, Guidance, SamplerSet
from storage.contract.items import IMAGE_TO_IMAGE, INPAINT, TEXT_TO_IMAGE

FLUX: Final = Family(
    name="flux",
    title="FLUX.1",
    pipelines={
        TEXT_TO_IMAGE: "FluxPipeline",
        IMAGE_TO_IMAGE: "FluxImg2ImgPipeline",
        INPAINT: "FluxInpaintPipeline",
    },
    covers=("FluxPipeline", "FluxImg2ImgPipeline", "FluxInpaintPipeline"),
    denoiser="transformer",
    text_encoders=(("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2")),
    controlnet_pipelines={TEXT_TO_IMAGE: "FluxControlNetPipeline"},
    loras=True,
    caches=True,
    samplers=SamplerSet.FLOW,
    guidance=Guidance.EMBEDDED,
    num_inference_steps=28,
    guidance_scale=3.5,
    strength=0.6,
    inpaint_strength=0.6,
    side=1024,
    size_multiple=16,
    min_size=16,
    token_limit=512,
    encode_bytes_per_token=188_000.0,  # the T5-XXL, one text of 512 tokens
    # 158.7 MiB at 512 and 468.1 MiB at 1024 pixels a side, with 512 tokens.
    denoise_bytes_per_pixel=413.0,
    denoise_bytes_fixed=58.4e6,
    decode_bytes_per_pixel=1537.0,
)
