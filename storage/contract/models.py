"""What is known of a model without loading it."""

from __future__ import annotations

import msgspec

from storage.contract.families.plain import plain_family
from storage.contract.families.record import Family
from storage.contract.families.registry import family_of


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
    latent_scale: int = 8  #: pixels per latent, by the VAE's config
    prediction_type: str | None = None  #: as the scheduler's config has it
    licence: str | None = None  #: as the model card names it
    has_safety_checker: bool = False
    force_upcast: bool = False  #: the VAE decodes in float32 where the rest is float16
    classes: dict[str, str] = {}  #: diffusers or transformers class per component
    stored_bytes: dict[str, int] = {}  #: of the safetensors files, per component
    #: Parameters on the device at once where the component is streamed; whole if not listed.
    streamed: dict[str, int] = {}

    @property
    def family(self) -> Family:
        """Its family record; that of `plain_family` if no record covers it."""
        return family_of(self.pipeline) or plain_family(self.pipeline, tuple(self.parameters))

    @property
    def is_plain(self) -> bool:
        """Whether no record covers it, so that only diffusers' plain pipeline call renders it."""
        return family_of(self.pipeline) is None
