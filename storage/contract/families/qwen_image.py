"""Qwen-Image."""

from __future__ import annotations

from typing import Final

from storage.contract.families.record import Family, Guidance, SamplerSet
from storage.contract.items import IMAGE_TO_IMAGE, INPAINT, TEXT_TO_IMAGE

QWEN_IMAGE: Final = Family(
    name="qwen-image",
    title="Qwen-Image",
    pipelines={
        TEXT_TO_IMAGE: "QwenImagePipeline",
        IMAGE_TO_IMAGE: "QwenImageImg2ImgPipeline",
        INPAINT: "QwenImageInpaintPipeline",
    },
    covers=("QwenImagePipeline", "QwenImageImg2ImgPipeline", "QwenImageInpaintPipeline"),
    denoiser="transformer",
    text_encoders=(("tokenizer", "text_encoder"),),
    loras=True,
    caches=True,
    samplers=SamplerSet.FLOW,
    guidance=Guidance.TRUE,
    num_inference_steps=50,
    guidance_scale=4.0,  # of true_cfg_scale
    strength=0.6,
    inpaint_strength=0.6,
    side=1024,
    one_by_one=True,
    size_multiple=16,
    min_size=16,
    token_limit=512,
    encode_bytes_per_token=512_000.0,  # Qwen2.5-VL 7B: all its layers' states, and its logits
    # 95.5 MiB at 512 and 368.9 MiB at 1024 pixels a side, and 0.036 MiB for each token. The
    # images of a batch are computed after each other: more of them need hardly more.
    denoise_bytes_per_pixel=365.0,
    denoise_bytes_fixed=21.6e6,
    decode_bytes_per_pixel=3462.0,
    encode_bytes_per_pixel=1937.0,
)
