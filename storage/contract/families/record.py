"""What a family's record says.

What the scheduler needs to check a row and estimate a group, and what the engine needs to
cut a pipeline into phases. Adding a family is adding a record and its test.

Activation constants are bytes per pixel and image in 16-bit with classifier-free guidance
(the batch doubled) where the family has it, measured as peak live storage of the real modules;
float32 is twice that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Guidance(StrEnum):
    """What `guidance_scale` means to a family."""

    CLASSIFIER_FREE = "classifier-free"  #: above 1 the negative prompt is computed beside
    EMBEDDED = "embedded"  #: a number the model reads; a negative needs true_cfg_scale above 1
    TRUE = "true"  #: only true_cfg_scale, with a negative prompt, guides


class SamplerSet(StrEnum):
    """Which samplers a family takes."""

    DIFFUSION = "diffusion"  #: epsilon and v-prediction samplers
    FLOW = "flow"  #: flow matching only
    FLOW_AND_DPM = "flow-and-dpm"  #: flow matching, or DPM++ and others with flow sigmas
    OWN = "own"  #: the model's own and nothing else


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """What the models of one family have in common."""

    name: str
    title: str  #: for people
    pipelines: Mapping[str, str]  #: diffusers class by kind of task
    covers: tuple[str, ...]  #: ``_class_name`` values of model_index.json it covers
    denoiser: str  #: the component that denoises
    text_encoders: tuple[tuple[str, str], ...]  #: (tokenizer, text encoder) components
    vae: str = "vae"
    extras: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Further components with weights that a kind of task needs."""
    controlnet_pipelines: Mapping[str, str] = field(default_factory=dict)
    """Diffusers class by kind of task, where the family has ControlNets."""
    loras: bool = False
    ip_adapters: bool = False
    caches: bool = False  #: its denoiser takes diffusers' lossy caches over steps
    samplers: SamplerSet = SamplerSet.DIFFUSION
    guidance: Guidance = Guidance.CLASSIFIER_FREE
    num_inference_steps: int  #: diffusers' default
    guidance_scale: float  #: diffusers' default
    strength: float = 0.8  #: diffusers' default for image to image
    inpaint_strength: float = 1.0  #: and for inpainting
    side: int = 512  #: default width and height where the model's config does not say
    binned: bool = False  #: computed at the model's own nearest size, then scaled and cropped
    one_by_one: bool = False  #: the images of a batch are denoised after each other
    size_multiple: int  #: width and height must be divisible by it
    min_size: int
    latent_scale: int = 8  #: pixels per latent, of released models
    token_limit: int = 77  #: where the text encoder's config does not say
    chunked_prompts: bool = False
    """Reads by CLIP alone, so that words can be weighed, and long prompts cut into chunks."""
    encode_bytes_per_token: float = 0.0  #: largest text encoder's activations per token
    denoise_bytes_per_pixel: float
    denoise_bytes_fixed: float = 0.0  #: per image, whatever its size (text tokens)
    decode_bytes_per_pixel: float
    encode_bytes_per_pixel: float = 2560.0 / 2  #: VAE encode of an input picture
    decode_dtype: str | None = None  #: the VAE's own where it must not follow the denoiser

    @property
    def pipeline(self) -> str:
        """The diffusers class of its first kind of task."""
        return next(iter(self.pipelines.values()))

    @property
    def components(self) -> tuple[str, ...]:
        """Components with weights that every kind needs, in the order the phases need them."""
        return (*(encoder for _, encoder in self.text_encoders), self.denoiser, self.vae)

    def components_of(self, kind: str) -> tuple[str, ...]:
        """Components with weights that `kind` needs."""
        return (*self.components, *self.extras.get(kind, ()))
