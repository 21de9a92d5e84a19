"""Stable Diffusion 1.x and 2.x, and the models of other kinds that were made from them.

Activation constants were measured as peak live storage of modules with the released models'
configs, in fp16 with guidance: the UNet 521 bytes a pixel of the picture (the upscaler's 978 a
pixel of what it makes), the VAEs' decoder 1537 and encoder 1286; a text encoder 40 kB a token
(SD 1) or 76 kB (SD 2).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from storage.contract.families.record import Family, Guidance, SamplerSet
from storage.contract.items import (
    DEPTH_TO_IMAGE,
    IMAGE_TO_IMAGE,
    INPAINT,
    TEXT_TO_IMAGE,
    UPSCALE,
)

STABLE_DIFFUSION: Final = Family(
    name="stable-diffusion",
    title="Stable Diffusion 1.x and 2.x",
    pipelines={
        TEXT_TO_IMAGE: "StableDiffusionPipeline",
        IMAGE_TO_IMAGE: "StableDiffusionImg2ImgPipeline",
        INPAINT: "StableDiffusionInpaintPipeline",
    },
    covers=("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline"),
    denoiser="unet",
    text_encoders=(("tokenizer", "text_encoder"),),
    controlnet_pipelines={
        TEXT_TO_IMAGE: "StableDiffusionControlNetPipeline",
        IMAGE_TO_IMAGE: "StableDiffusionControlNetImg2ImgPipeline",
        INPAINT: "StableDiffusionControlNetInpaintPipeline",
    },
    chunked_prompts=True,
    loras=True,
    ip_adapters=True,
    num_inference_steps=50,
    guidance_scale=7.5,
    size_multiple=8,
    min_size=8,
    encode_bytes_per_token=75_800.0,
    denoise_bytes_per_pixel=521.0,
    decode_bytes_per_pixel=1537.0,
    encode_bytes_per_pixel=1286.0,
)

STABLE_DIFFUSION_INPAINTING: Final = replace(
    STABLE_DIFFUSION,
    name="stable-diffusion-inpainting",
    title="Stable Diffusion inpainting",
    pipelines={INPAINT: "StableDiffusionInpaintPipeline"},
    controlnet_pipelines={INPAINT: "StableDiffusionControlNetInpaintPipeline"},
    covers=("StableDiffusionInpaintPipeline",),
)

STABLE_DIFFUSION_DEPTH: Final = replace(
    STABLE_DIFFUSION,
    name="stable-diffusion-depth",
    title="Stable Diffusion 2 depth",
    pipelines={DEPTH_TO_IMAGE: "StableDiffusionDepth2ImgPipeline"},
    controlnet_pipelines={},
    covers=("StableDiffusionDepth2ImgPipeline",),
    extras={DEPTH_TO_IMAGE: ("depth_estimator",)},
    ip_adapters=False,
)

STABLE_DIFFUSION_UPSCALER: Final = replace(
    STABLE_DIFFUSION,
    name="stable-diffusion-upscaler",
    title="Stable Diffusion x4 upscaler",
    pipelines={UPSCALE: "StableDiffusionUpscalePipeline"},
    controlnet_pipelines={},
    covers=("StableDiffusionUpscalePipeline",),
    ip_adapters=False,
    num_inference_steps=75,
    guidance_scale=9.0,
    size_multiple=16,  # four times what its VAE's latents want
    min_size=16,
    latent_scale=4,
    denoise_bytes_per_pixel=978.0,
)

LATENT_CONSISTENCY: Final = replace(
    STABLE_DIFFUSION,
    name="latent-consistency",
    title="Latent Consistency Models",
    pipelines={
        TEXT_TO_IMAGE: "LatentConsistencyModelPipeline",
        IMAGE_TO_IMAGE: "LatentConsistencyModelImg2ImgPipeline",
    },
    controlnet_pipelines={},
    covers=("LatentConsistencyModelPipeline", "LatentConsistencyModelImg2ImgPipeline"),
    samplers=SamplerSet.OWN,
    guidance=Guidance.EMBEDDED,
    num_inference_steps=4,
    guidance_scale=8.5,
    denoise_bytes_per_pixel=261.0,  # no negative beside, so the batch is not doubled
)
