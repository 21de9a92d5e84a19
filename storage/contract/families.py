"""Model families: one declarative record each.

What the scheduler needs to check a row and estimate a group, and what the engine needs to
cut a pipeline into phases. Adding a family is adding a record and its test.

Activation constants are bytes per pixel and image in 16-bit with classifier-free guidance
(the batch doubled), measured as peak live storage of the real modules; float32 is twice that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """What the models of one family have in common."""

    name: str
    pipelines: tuple[str, ...]  #: ``_class_name`` values of model_index.json it covers
    denoiser: str  #: the component that denoises
    text_encoders: tuple[tuple[str, str], ...]  #: (tokenizer, text encoder) components
    num_inference_steps: int  #: diffusers' default
    guidance_scale: float  #: diffusers' default
    size_multiple: int  #: width and height must be divisible by it
    min_size: int
    denoise_bytes_per_pixel: float
    decode_bytes_per_pixel: float

    @property
    def components(self) -> tuple[str, ...]:
        """Components with weights, in the order the phases need them."""
        return (*(encoder for _, encoder in self.text_encoders), self.denoiser, "vae")


STABLE_DIFFUSION: Final = Family(
    name="stable-diffusion",
    pipelines=("StableDiffusionPipeline",),
    denoiser="unet",
    text_encoders=(("tokenizer", "text_encoder"),),
    num_inference_steps=50,
    guidance_scale=7.5,
    size_multiple=8,
    min_size=8,
    denoise_bytes_per_pixel=520.0,
    decode_bytes_per_pixel=1536.0,
)

FAMILIES: Final[tuple[Family, ...]] = (STABLE_DIFFUSION,)


def family_of(pipeline_class: str) -> Family | None:
    """The family whose models name `pipeline_class` in their model_index.json, or None."""
    return next((f for f in FAMILIES if pipeline_class in f.pipelines), None)


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a model from its config files and headers, without loading it."""

    model: str  #: as rows name it
    revision: str | None  #: the commit it was resolved to; None for a folder
    path: str | None  #: the local folder, if it is on this machine
    pipeline: str  #: ``_class_name`` of its model_index.json
    width: int  #: default size in pixels
    height: int
    num_inference_steps: int
    guidance_scale: float
    scheduler: str  #: class name of the model's own scheduler
    parameters: dict[str, int]  #: per component
    weight_bytes: int  #: of all safetensors files, as stored
    token_limit: int  #: tokens the text encoder reads, start and end included
    text_layers: int = 12  #: layers of the text encoder, which ``clip_skip`` counts from the end

    @property
    def family(self) -> Family:
        """Its family record; a card is only made for known families."""
        found = family_of(self.pipeline)
        if found is None:
            raise LookupError(f"no family covers {self.pipeline}")
        return found
