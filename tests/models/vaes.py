"""Small autoencoders with random weights and the released models' scale."""

from __future__ import annotations

from typing import Any

from tests.models.texts import seeded


def kl(channels: int, **settings: Any) -> Any:
    """An AutoencoderKL that makes 8 pixels of a latent."""
    import diffusers

    levels = 4
    settings = {"scaling_factor": 1.5, "shift_factor": 0.06} | settings
    return seeded(
        lambda: diffusers.AutoencoderKL(
            block_out_channels=(4,) * levels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            layers_per_block=1,
            latent_channels=channels,
            norm_num_groups=2,
            mid_block_add_attention=False,
            **settings,
        )
    )
