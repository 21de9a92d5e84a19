"""A FLUX.1 of some kilobytes with random weights."""

from __future__ import annotations

from pathlib import Path

from tests.models.texts import clip_encoder, clip_tokenizer, seeded, t5_encoder, t5_tokenizer
from tests.models.vaes import kl


def flux(folder: Path, *, guidance_embeds: bool = True) -> Path:
    """Text to image; without `guidance_embeds` as schnell."""
    import diffusers

    clips, long = clip_tokenizer(), t5_tokenizer()
    diffusers.FluxPipeline(
        tokenizer=clips,
        text_encoder=clip_encoder(16, clips, projected=False),
        tokenizer_2=long,
        text_encoder_2=t5_encoder(32, long),
        transformer=seeded(
            lambda: diffusers.FluxTransformer2DModel(
                in_channels=64,
                num_layers=1,
                num_single_layers=1,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=32,
                pooled_projection_dim=16,
                guidance_embeds=guidance_embeds,
                axes_dims_rope=(4, 4, 8),
            )
        ),
        vae=kl(16),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            shift=3.0, use_dynamic_shifting=guidance_embeds
        ),
    ).save_pretrained(folder)
    return folder
