"""A Z-Image of some kilobytes with random weights."""

from __future__ import annotations

from pathlib import Path

from tests.models.texts import chat_tokenizer, qwen3, seeded
from tests.models.vaes import kl


def z_image(folder: Path) -> Path:
    """Text to image."""
    import diffusers

    tokenizer = chat_tokenizer()
    diffusers.ZImagePipeline(
        tokenizer=tokenizer,
        text_encoder=qwen3(16, tokenizer, layers=2),
        transformer=seeded(
            lambda: diffusers.ZImageTransformer2DModel(
                in_channels=16,
                dim=32,
                n_layers=2,
                n_refiner_layers=1,
                n_heads=2,
                n_kv_heads=2,
                cap_feat_dim=16,
                axes_dims=[4, 6, 6],
                axes_lens=[1024, 64, 64],
            )
        ),
        vae=kl(16),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    ).save_pretrained(folder)
    return folder
