"""A Stable Diffusion 3 of some kilobytes with random weights."""

from __future__ import annotations

from pathlib import Path

from tests.models.texts import clip_encoder, clip_tokenizer, seeded, t5_encoder, t5_tokenizer
from tests.models.vaes import kl


def stable_diffusion_3(folder: Path, *, t5: bool = True) -> Path:
    """Text to image; without a `t5` as a model that was saved without one."""
    import diffusers

    clips, long = clip_tokenizer(), t5_tokenizer()
    diffusers.StableDiffusion3Pipeline(
        tokenizer=clips,
        text_encoder=clip_encoder(16, clips, projected=True),
        tokenizer_2=clips,
        text_encoder_2=clip_encoder(16, clips, projected=True),
        tokenizer_3=long if t5 else None,
        text_encoder_3=t5_encoder(48, long) if t5 else None,
        transformer=seeded(
            lambda: diffusers.SD3Transformer2DModel(
                sample_size=32,
                patch_size=2,
                in_channels=16,
                num_layers=2,
                attention_head_dim=8,
                num_attention_heads=2,
                joint_attention_dim=48,
                caption_projection_dim=16,
                pooled_projection_dim=32,
                out_channels=16,
                pos_embed_max_size=32,
            )
        ),
        vae=kl(16),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    ).save_pretrained(folder)
    return folder
