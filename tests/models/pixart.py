"""A PixArt-alpha and a PixArt-Sigma of some kilobytes with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.models.texts import seeded, t5_encoder, t5_tokenizer
from tests.models.vaes import kl


def pixart(folder: Path, *, alpha: bool = False) -> Path:
    """Text to image, at sizes about 256 x 256."""
    import diffusers

    tokenizer = t5_tokenizer()
    kind: Any = diffusers.PixArtAlphaPipeline if alpha else diffusers.PixArtSigmaPipeline
    kind(
        tokenizer=tokenizer,
        text_encoder=t5_encoder(16, tokenizer),
        transformer=seeded(
            lambda: diffusers.PixArtTransformer2DModel(
                sample_size=32,
                num_layers=1,
                patch_size=2,
                attention_head_dim=8,
                num_attention_heads=2,
                caption_channels=16,
                cross_attention_dim=16,
                in_channels=4,
                out_channels=8,
                use_additional_conditions=False,
            )
        ),
        vae=kl(4, shift_factor=None),
        scheduler=diffusers.DPMSolverMultistepScheduler(
            beta_start=0.0001, beta_end=0.02, beta_schedule="linear"
        ),
    ).save_pretrained(folder)
    return folder
