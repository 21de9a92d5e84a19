"""ControlNets with random weights for transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.models.texts import seeded

_SHARED = (
    "attention_head_dim",
    "num_attention_heads",
    "joint_attention_dim",
    "pooled_projection_dim",
)
_OF_SD3 = ("sample_size", "patch_size", "caption_projection_dim", "pos_embed_max_size")
_OF_FLUX = ("in_channels", "guidance_embeds", "axes_dims_rope")


def sd3_controlnet(folder: Path, model: Path, *, seed: int = 1) -> Path:
    """A ControlNet for the SD3 transformer in `model`."""
    import diffusers

    config = _config(model, (*_SHARED, *_OF_SD3))
    made = seeded(lambda: diffusers.SD3ControlNetModel(num_layers=1, **config), seed)
    made.save_pretrained(folder)
    return folder


def flux_controlnet(folder: Path, model: Path, *, seed: int = 1) -> Path:
    """A ControlNet that looks at latents, for the FLUX transformer in `model`."""
    import diffusers

    config = _config(model, (*_SHARED, *_OF_FLUX))
    made = seeded(
        lambda: diffusers.FluxControlNetModel(num_layers=1, num_single_layers=1, **config), seed
    )
    made.save_pretrained(folder)
    return folder


def _config(model: Path, names: tuple[str, ...]) -> dict[str, Any]:
    import diffusers

    config = diffusers.DiffusionPipeline.from_pretrained(model).transformer.config
    return {name: config[name] for name in names}
