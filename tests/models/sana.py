"""A Sana and a Sana-Sprint of some kilobytes with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.models.texts import chat_tokenizer, gemma2, seeded


def sana(folder: Path) -> Path:
    """Text to image, at sizes about 512 x 512."""
    import diffusers

    diffusers.SanaPipeline(
        **_parts(sample_size=16),
        scheduler=diffusers.DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    ).save_pretrained(folder)
    return folder


def sana_sprint(folder: Path) -> Path:
    """Text to image in a few steps, at sizes about 1024 x 1024."""
    import diffusers

    diffusers.SanaSprintPipeline(
        **_parts(sample_size=32, guidance_embeds=True, qk_norm="rms_norm_across_heads"),
        scheduler=diffusers.SCMScheduler(),
    ).save_pretrained(folder)
    return folder


def _parts(**settings: Any) -> dict[str, Any]:
    import diffusers

    tokenizer = chat_tokenizer(first="<bos>")
    levels = 6
    return {
        "tokenizer": tokenizer,
        "text_encoder": gemma2(16, tokenizer),
        "transformer": seeded(
            lambda: diffusers.SanaTransformer2DModel(
                in_channels=4,
                out_channels=4,
                num_layers=1,
                attention_head_dim=8,
                num_attention_heads=2,
                num_cross_attention_heads=2,
                cross_attention_head_dim=8,
                cross_attention_dim=16,
                caption_channels=16,
                **settings,
            )
        ),
        "vae": seeded(
            lambda: diffusers.AutoencoderDC(
                latent_channels=4,
                attention_head_dim=2,
                encoder_block_types="ResBlock",
                decoder_block_types="ResBlock",
                encoder_block_out_channels=(4,) * levels,
                decoder_block_out_channels=(4,) * levels,
                encoder_layers_per_block=(1,) * levels,
                decoder_layers_per_block=(1,) * levels,
                encoder_qkv_multiscales=((),) * levels,
                decoder_qkv_multiscales=((),) * levels,
                scaling_factor=0.41407,
            )
        ),
    }
