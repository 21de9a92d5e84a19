"""A FLUX.2 and a FLUX.2 Klein of some kilobytes with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.models.texts import chat_tokenizer, mistral3, qwen3, seeded


def flux2(folder: Path) -> Path:
    """Text to image as the dev model: a Mistral 3 whose layers 10, 20 and 30 are read.

    The released model has a processor for a tokenizer, which does the same with texts.
    """
    import diffusers

    tokenizer = chat_tokenizer()
    diffusers.Flux2Pipeline(
        tokenizer=tokenizer,
        text_encoder=mistral3(16, tokenizer, layers=31),
        transformer=_transformer(guidance_embeds=True),
        vae=_vae(),
        scheduler=_scheduler(),
    ).save_pretrained(folder)
    return folder


def flux2_klein(folder: Path, *, distilled: bool = False) -> Path:
    """Text to image as the small models: a Qwen3 whose layers 9, 18 and 27 are read."""
    import diffusers

    tokenizer = chat_tokenizer()
    diffusers.Flux2KleinPipeline(
        tokenizer=tokenizer,
        text_encoder=qwen3(16, tokenizer, layers=28),
        transformer=_transformer(guidance_embeds=False),
        vae=_vae(),
        scheduler=_scheduler(),
        is_distilled=distilled,
    ).save_pretrained(folder)
    return folder


def _transformer(*, guidance_embeds: bool) -> Any:
    import diffusers

    return seeded(
        lambda: diffusers.Flux2Transformer2DModel(
            in_channels=32,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=48,
            timestep_guidance_channels=32,
            axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=guidance_embeds,
        )
    )


def _vae() -> Any:
    import diffusers

    levels = 4
    vae = seeded(
        lambda: diffusers.AutoencoderKLFlux2(
            block_out_channels=(4,) * levels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            layers_per_block=1,
            latent_channels=8,
            norm_num_groups=2,
            mid_block_add_attention=False,
        )
    )
    vae.bn.running_mean.uniform_(-0.3, 0.3)
    vae.bn.running_var.uniform_(0.5, 2.0)
    return vae


def _scheduler() -> Any:
    import diffusers

    return diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
