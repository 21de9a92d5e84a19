"""PixArt-alpha and PixArt-Sigma."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from storage.contract.families.record import Family
from storage.contract.items import TEXT_TO_IMAGE

PIXART_ALPHA: Final = Family(
    name="pixart-alpha",
    title="PixArt-α",
    pipelines={TEXT_TO_IMAGE: "PixArtAlphaPipeline"},
    covers=("PixArtAlphaPipeline",),
    denoiser="transformer",
    text_encoders=(("tokenizer", "text_encoder"),),
    num_inference_steps=20,
    guidance_scale=4.5,
    side=1024,
    binned=True,
    size_multiple=8,
    min_size=64,
    token_limit=120,
    encode_bytes_per_token=188_000.0,  # the T5-XXL, one text of 512 tokens
    # 60.1 MiB at 512 and 222.3 MiB at 1024 pixels a side, with 300 tokens.
    denoise_bytes_per_pixel=217.0,
    denoise_bytes_fixed=6.3e6,
    decode_bytes_per_pixel=1537.0,
)

PIXART_SIGMA: Final = replace(
    PIXART_ALPHA,
    name="pixart-sigma",
    title="PixArt-Σ",
    pipelines={TEXT_TO_IMAGE: "PixArtSigmaPipeline"},
    covers=("PixArtSigmaPipeline",),
    token_limit=300,
)
