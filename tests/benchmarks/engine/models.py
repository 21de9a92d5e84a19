"""Models of full size with random weights: as slow and as large as the real ones.

Configurations are those of the released models. Weights are seeded, so two runs are alike;
pictures are noise, which costs what a real picture does to compute, and more to encode.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from tests.models.parts import clip_tokenizer


def stable_diffusion_1_5(folder: Path, dtype: torch.dtype) -> None:
    """860 million parameters in the UNet, 123 in the text encoder, 84 in the VAE."""
    tokenizer = clip_tokenizer(folder / "made")
    parts = {
        "unet": _made(UNet2DConditionModel, dtype, sample_size=64, cross_attention_dim=768),
        "vae": _vae(dtype, 0.18215, 512),
        "text_encoder": _text(CLIPTextModel, 768, 12, 12, dtype, tokenizer),
    }
    StableDiffusionPipeline(
        **parts,
        tokenizer=tokenizer,
        scheduler=DDIMScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def stable_diffusion_xl(folder: Path, dtype: torch.dtype) -> None:
    """2.57 billion parameters in the UNet, 0.82 in two text encoders, 84 million in the VAE."""
    tokenizer = clip_tokenizer(folder / "made")
    unet = _made(
        UNet2DConditionModel,
        dtype,
        sample_size=128,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(320, 640, 1280),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )
    StableDiffusionXLPipeline(
        unet=unet,
        vae=_vae(dtype, 0.13025, 1024),
        text_encoder=_text(CLIPTextModel, 768, 12, 12, dtype, tokenizer),
        text_encoder_2=_text(CLIPTextModelWithProjection, 1280, 32, 20, dtype, tokenizer),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        scheduler=EulerDiscreteScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1
        ),
        add_watermarker=False,
    ).save_pretrained(folder)


def _made(kind: Any, dtype: torch.dtype, **config: Any) -> Any:
    """A module with random weights, made where it can hold them in `dtype` from the start."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return kind(**config).eval()
    finally:
        torch.set_default_dtype(before)


def _vae(dtype: torch.dtype, scaling: float, side: int) -> Any:
    return _made(
        AutoencoderKL,
        dtype,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        sample_size=side,
        scaling_factor=scaling,
        force_upcast=False,
    )


def _text(
    kind: Any, width: int, layers: int, heads: int, dtype: torch.dtype, tokenizer: Any
) -> Any:
    config = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        projection_dim=width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return _made(kind, dtype, config=config)


MODELS: Final[dict[str, tuple[Callable[[Path, torch.dtype], None], int]]] = {
    "sd15": (stable_diffusion_1_5, 512),
    "sdxl": (stable_diffusion_xl, 1024),
}
"""Builder and native side by name."""
