"""SDXL, its inpainting model and its refiner.

Activation constants were measured as peak live storage of modules with the released models'
configs, in fp16 with guidance: the UNet 316 bytes a pixel of the picture (the refiner's 379), the
VAE's decoder 1537 and encoder 1286 (twice that in float32, where its config says that it
overflows); the larger text encoder 118 kB a token.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from storage.contract.families.record import Family
from storage.contract.items import IMAGE_TO_IMAGE, INPAINT, TEXT_TO_IMAGE

STABLE_DIFFUSION_XL: Final = Family(
    name="stable-diffusion-xl",
    title="Stable Diffusion XL",
    pipelines={
        TEXT_TO_IMAGE: "StableDiffusionXLPipeline",
        IMAGE_TO_IMAGE: "StableDiffusionXLImg2ImgPipeline",
        INPAINT: "StableDiffusionXLInpaintPipeline",
    },
    covers=("StableDiffusionXLPipeline",),
    denoiser="unet",
    text_encoders=(("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2")),
    controlnet_pipelines={
        TEXT_TO_IMAGE: "StableDiffusionXLControlNetPipeline",
        IMAGE_TO_IMAGE: "StableDiffusionXLControlNetImg2ImgPipeline",
        INPAINT: "StableDiffusionXLControlNetInpaintPipeline",
    },
    chunked_prompts=True,
    loras=True,
    ip_adapters=True,
    num_inference_steps=50,
    guidance_scale=5.0,
    strength=0.3,
    inpaint_strength=0.9999,
    side=1024,
    size_multiple=8,
    min_size=8,
    encode_bytes_per_token=117_800.0,
    denoise_bytes_per_pixel=316.0,
    encode_bytes_per_pixel=1286.0,
    decode_bytes_per_pixel=1537.0,  # twice that where the card says the VAE must be upcast
)

STABLE_DIFFUSION_XL_INPAINTING: Final = replace(
    STABLE_DIFFUSION_XL,
    name="stable-diffusion-xl-inpainting",
    title="Stable Diffusion XL inpainting",
    pipelines={INPAINT: "StableDiffusionXLInpaintPipeline"},
    controlnet_pipelines={INPAINT: "StableDiffusionXLControlNetInpaintPipeline"},
    covers=("StableDiffusionXLInpaintPipeline",),
    guidance_scale=7.5,
)

STABLE_DIFFUSION_XL_REFINER: Final = replace(
    STABLE_DIFFUSION_XL,
    name="stable-diffusion-xl-refiner",
    title="Stable Diffusion XL refiner",
    pipelines={
        IMAGE_TO_IMAGE: "StableDiffusionXLImg2ImgPipeline",
        INPAINT: "StableDiffusionXLInpaintPipeline",
    },
    controlnet_pipelines={},
    # A pipeline of this class is taken for the refiner: SDXL's own repositories name the
    # text-to-image class, of which this one's models have the second text encoder alone.
    covers=("StableDiffusionXLImg2ImgPipeline",),
    text_encoders=(("tokenizer_2", "text_encoder_2"),),
    loras=False,
    ip_adapters=False,
    denoise_bytes_per_pixel=379.0,
)
