"""The record of models that no family's record covers.

Nothing is known of them but their components, so they are rendered by diffusers' own pipeline
call, from text, with everything on the device. Their memory is a cautious guess: the largest
constants of the families that are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from storage.contract.families.record import Family, SamplerSet
from storage.contract.items import TEXT_TO_IMAGE

PLAIN: Final = "plain"
"""The name of the record."""

_DENOISERS: Final = ("transformer", "unet", "prior", "decoder")
_VAES: Final = ("vae", "vqvae", "vqgan", "movq")
_NOT_IMAGES: Final = ("Video", "Audio", "Music", "Animate", "3D", "Speech")


def renders_images(pipeline_class: str) -> bool:
    """Whether a diffusers class of that name may make pictures from text."""
    return pipeline_class.endswith("Pipeline") and not any(
        word in pipeline_class for word in _NOT_IMAGES
    )


@lru_cache(maxsize=64)
def plain_family(pipeline_class: str, components: tuple[str, ...]) -> Family:
    """A record for the pipeline class, with what `components` (those with weights) tell."""
    encoders = tuple(name for name in components if name.startswith("text_encoder"))
    return Family(
        name=PLAIN,
        title="other models, by diffusers' own call",
        pipelines={TEXT_TO_IMAGE: pipeline_class},
        covers=(),
        denoiser=_first(_DENOISERS, components),
        text_encoders=tuple((name.replace("text_encoder", "tokenizer"), name) for name in encoders),
        vae=_first(_VAES, components),
        samplers=SamplerSet.OWN,
        num_inference_steps=50,
        guidance_scale=7.5,
        side=1024,
        size_multiple=16,
        min_size=64,
        denoise_bytes_per_pixel=520.0,
        decode_bytes_per_pixel=1536.0,
    )


def _first(names: Sequence[str], components: tuple[str, ...]) -> str:
    """The first of `names` that there is; else the first name."""
    return next((name for name in names if name in components), names[0])
