"""Z-Image."""

from __future__ import annotations

from typing import Final

from storage.contract.families.record import Family, SamplerSet
from storage.contract.items import IMAGE_TO_IMAGE, INPAINT, TEXT_TO_IMAGE

Z_IMAGE: Final = Family(
    name="z-image",
    title="Z-Image",
    pipelines={
        TEXT_TO_IMAGE: "ZImagePipeline",
        IMAGE_TO_IMAGE: "ZImageImg2ImgPipeline",
        INPAINT: "ZImageInpaintPipeline",
    },
    covers=("ZImagePipeline", "ZImageImg2ImgPipeline", "ZImageInpaintPipeline"),
    denoiser="transformer",
    text_encoders=(("tokenizer", "text_encoder"),),
    loras=True,
    samplers=SamplerSet.FLOW,
    num_inference_steps=50,
    guidance_scale=5.0,  # above 0, not 1, the negative prompt is computed beside
    strength=0.6,
    side=1024,
    one_by_one=True,
    size_multiple=16,
    min_size=16,
    token_limit=512,
    encode_bytes_per_token=493_000.0,  # Qwen3 4B: all its layers' states, and its logits
    # 180.8 MiB at 512 and 536.7 MiB at 1024 pixels a side, with 512 tokens. The sequences of a
    # batch are computed after each other: more of them need hardly more.
    denoise_bytes_per_pixel=475.0,
    denoise_bytes_fixed=65.3e6,
    decode_bytes_per_pixel=1537.0,
)
