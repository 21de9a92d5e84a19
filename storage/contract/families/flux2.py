"""FLUX.2: the dev model, and the small ones named Klein."""

from __future__ import annotations

from typing import Final

from storage.contract.families.record import Family, Guidance, SamplerSet
from storage.contract.items import TEXT_TO_IMAGE

FLUX_2: Final = Family(
    name="flux-2",
    title="FLUX.2",
    pipelines={TEXT_TO_IMAGE: "Flux2Pipeline"},
    covers=("Flux2Pipeline",),
    denoiser="transformer",
    text_encoders=(("tokenizer", "text_encoder"),),
    loras=True,
    caches=True,
    samplers=SamplerSet.FLOW,
    guidance=Guidance.EMBEDDED,
    num_inference_steps=50,
    guidance_scale=4.0,
    side=1024,
    size_multiple=16,
    min_size=16,
    token_limit=512,
    encode_bytes_per_token=682_000.0,  # Mistral 3 24B: all its layers' states, and its logits
    # 402.5 MiB at 512 and 1165.3 MiB at 1024 pixels a side, with 512 tokens.
    denoise_bytes_per_pixel=1018.0,
    denoise_bytes_fixed=156e6,
    decode_bytes_per_pixel=1538.0,
)

FLUX_2_KLEIN: Final = Family(
    name="flux-2-klein",
    title="FLUX.2 Klein",
    pipelines={TEXT_TO_IMAGE: "Flux2KleinPipeline"},
    covers=("Flux2KleinPipeline",),
    denoiser="transformer",
    text_encoders=(("tokenizer", "text_encoder"),),
    loras=True,
    caches=True,
    samplers=SamplerSet.FLOW,
    num_inference_steps=50,
    guidance_scale=4.0,
    side=1024,
    size_multiple=16,
    min_size=16,
    token_limit=512,
    encode_bytes_per_token=607_000.0,  # Qwen3 8B: all its layers' states, and its logits
    # Of the 9B: 271.4 MiB at 512 and 782.2 MiB at 1024 pixels a side. The prompts of
    # classifier-free guidance are computed after each other.
    denoise_bytes_per_pixel=681.0,
    denoise_bytes_fixed=107e6,
    decode_bytes_per_pixel=1538.0,
)
