"""Components with random weights that several kinds of models share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LETTERS = [chr(code) for code in range(33, 127)]
VOCABULARY = [
    *LETTERS,
    *(f"{letter}</w>" for letter in LETTERS),
    "<|startoftext|>",
    "<|endoftext|>",
]
CROSS = 32  #: width of the text encoder's states
CROSS_2 = 48  #: of the second one's


def clip_tokenizer(folder: Path, *, length: int = 77, pad: str = "<|endoftext|>") -> Any:
    """One token a letter; `folder` is where its two files go."""
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(VOCABULARY)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(
        str(folder / "vocab.json"),
        str(folder / "merges.txt"),
        model_max_length=length,
        pad_token=pad,
    )


def clip_text_config(*, width: int = CROSS, layers: int = 3, projection: int = 32) -> Any:
    """Of a CLIP text encoder."""
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=77,
        projection_dim=projection,
        bos_token_id=len(VOCABULARY) - 2,
        eos_token_id=len(VOCABULARY) - 1,
        pad_token_id=len(VOCABULARY) - 1,
    )


def clip_text_encoder(**config: Any) -> Any:
    """As the first text encoder of Stable Diffusion models."""
    from transformers import CLIPTextModel

    return CLIPTextModel(clip_text_config(**config))


def clip_text_encoder_2(**config: Any) -> Any:
    """As the second of SDXL: with a projected summary of the text."""
    from transformers import CLIPTextModelWithProjection

    return CLIPTextModelWithProjection(clip_text_config(width=CROSS_2, **config))


def clip_image_encoder() -> Any:
    """As IP-Adapters look at pictures with; summaries 32 wide."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=32,
            patch_size=8,
            projection_dim=32,
        )
    )


def clip_image_processor() -> Any:
    """For `clip_image_encoder`."""
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def kl_vae(*, blocks: int = 4, channels: int = 4, scaling_factor: float = 0.18215) -> Any:
    """An AutoencoderKL, 2 ** (blocks - 1) pixels a latent."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8, 16, 16)[:blocks],
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        norm_num_groups=4,
        latent_channels=channels,
        sample_size=64,
        scaling_factor=scaling_factor,
    )


def unet(**changes: Any) -> Any:
    """A UNet of two levels."""
    from diffusers import UNet2DConditionModel

    config = {
        "sample_size": 8,
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": CROSS,
        "attention_head_dim": 8,
    }
    return UNet2DConditionModel(**{**config, **changes})


def diffusion_settings(**changes: Any) -> dict[str, Any]:
    """What the schedulers of Stable Diffusion's models have in common."""
    return {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        **changes,
    }


def ddim(**changes: Any) -> Any:
    """The scheduler most of these models come with."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(**diffusion_settings(**changes))
