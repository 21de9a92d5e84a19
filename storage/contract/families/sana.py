"""Sana and Sana-Sprint."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from storage.contract.families.record import Family, Guidance, SamplerSet
from storage.contract.items import TEXT_TO_IMAGE

SANA: Final = Family(
    name="sana",
    title="Sana",
    pipelines={TEXT_TO_IMAGE: "SanaPipeline"},
    covers=("SanaPipeline",),
    denoiser="transformer",
    text_encoders=(("tokenizer", "text_encoder"),),
    loras=True,
    samplers=SamplerSet.FLOW_AND_DPM,
    num_inference_steps=20,
    guidance_scale=4.5,
    side=1024,
    binned=True,
    size_multiple=8,
    min_size=64,
    latent_scale=32,
    token_limit=300,
    encode_bytes_per_token=95_000.0,  # Gemma 2 2B, one text of 600 tokens with its instruction
    # 36.0 MiB at 512 and 127.9 MiB at 1024 pixels a side.
    denoise_bytes_per_pixel=123.0,
    denoise_bytes_fixed=5.6e6,
    decode_bytes_per_pixel=1667.0,
)

SANA_SPRINT: Final = replace(
    SANA,
    name="sana-sprint",
    title="Sana-Sprint",
    pipelines={TEXT_TO_IMAGE: "SanaSprintPipeline"},
    covers=("SanaSprintPipeline",),
    samplers=SamplerSet.OWN,
    guidance=Guidance.EMBEDDED,
    num_inference_steps=2,
    denoise_bytes_per_pixel=62.0,  # half of Sana's: the batch is not doubled
    denoise_bytes_fixed=2.8e6,
)
