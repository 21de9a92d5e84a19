"""A Qwen-Image of some kilobytes with random weights."""

from __future__ import annotations

from pathlib import Path

from tests.models.texts import chat_tokenizer, qwen25_vl, seeded


def qwen_image(folder: Path) -> Path:
    """Text to image."""
    import diffusers

    tokenizer = chat_tokenizer()
    diffusers.QwenImagePipeline(
        tokenizer=tokenizer,
        text_encoder=qwen25_vl(16, tokenizer),
        transformer=seeded(
            lambda: diffusers.QwenImageTransformer2DModel(
                in_channels=64,
                out_channels=16,
                num_layers=2,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=16,
                axes_dims_rope=(4, 6, 6),
            )
        ),
        vae=seeded(
            lambda: diffusers.AutoencoderKLQwenImage(
                base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1
            )
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    ).save_pretrained(folder)
    return folder
