"""What is known of a model without loading it."""

from __future__ import annotations

import msgspec

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

    @property
    def family(self) -> Family:
        """Its family record; a card is only made for known families."""
        found = family_of(self.pipeline)
        if found is None:
            raise LookupError(f"no family covers {self.pipeline}")
        return found
