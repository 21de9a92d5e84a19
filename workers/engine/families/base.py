"""What an adapter offers to the phases.

A task runs in four phases: encode every distinct text (one text encoder after the other),
condition (turn input pictures into latents and the like), denoise, decode. The engine decides
which components lie on the device when; an adapter computes one phase with a `Bench` that holds
the components of that phase and nothing else, so that the same adapter serves all modes.

What passes between phases lies in host memory, one mapping per text or per slot, without a batch
dimension. Names are those of the pipeline call's parameters ("prompt_embeds",
"pooled_prompt_embeds", "image_latents" ...).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from storage.contract.items import GroupSpec, Item
from storage.contract.models import ModelCard

Tensor = Any
"""A torch tensor; the shape is said where it is used."""

Picture = Any
"""A Pillow image: an input, checked, turned upright, in RGB (masks: L), at the group's size."""

Row = Mapping[str, Tensor]
"""What one phase made of one text or one slot, on the host."""


class Phase(StrEnum):
    """What a task does, in this order."""

    ENCODE = "encode"
    CONDITION = "condition"
    DENOISE = "denoise"
    DECODE = "decode"


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """What a phase works with.

    `pipeline` is the diffusers pipeline of the group's kind with this phase's components; the
    others are None, or (where diffusers reads it) a stand-in that has only a `config`.
    """

    pipeline: Any
    card: ModelCard
    spec: GroupSpec
    device: str
    dtype: Any  #: torch dtype of the denoiser


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """The input pictures of one slot of a batch."""

    image: Picture | None = None
    mask_image: Picture | None = None
    control_images: tuple[Picture, ...] = ()
    ip_adapter_image: Picture | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DenoiseInputs:
    """The slots of one denoising batch, all of the same length."""

    items: Sequence[Item]
    prompts: Sequence[Row]
    negatives: Sequence[Row] | None  #: None where nothing is computed beside
    conditions: Sequence[Row]  #: empty rows for text to image
    generators: Sequence[Any]  #: each slot's own source of noise, as conditioning left it


class FamilyAdapter(Protocol):
    """The phases of one family. Every batch dimension is exactly what is passed in."""

    def components(self, spec: GroupSpec, phase: Phase) -> tuple[str, ...]:
        """Components with weights that `phase` needs at once, besides text encoders one by one.

        For ENCODE: the text encoders, in the order they are used.
        """

    def needs_negatives(self, spec: GroupSpec) -> bool:
        """Whether negative prompts are computed beside."""

    def encode(
        self, bench: Bench, encoder: str, texts: Sequence[str], *, negative: bool
    ) -> list[Row]:
        """What the text encoder `encoder` (the only one on the bench) makes of each text."""

    def join(self, spec: GroupSpec, parts: Mapping[str, Row]) -> Row:
        """One text's rows of all encoders as the denoiser takes them."""

    def condition(
        self, bench: Bench, inputs: Sequence[Inputs], generators: Sequence[Any]
    ) -> list[Row]:
        """What the denoiser needs of each slot's pictures.

        Draws from the slot's generator exactly what the ordinary pipeline call would draw before
        its noise, so that the pixels are those of an ordinary call.
        """

    def denoise(
        self, bench: Bench, inputs: DenoiseInputs, on_step: Callable[[int], None]
    ) -> Tensor:
        """Latents, one per slot, as `decode` takes them.

        `on_step` is called with the number of each finished step, and may raise.
        """

    def decode(self, bench: Bench, latents: Tensor) -> Tensor:
        """Pictures of shape (n, 3, height, width), float32 in 0 to 1, not yet clamped."""

    def count_tokens(self, bench: Bench, text: str) -> int:
        """Tokens of `text`, start and end included, by the tokenizer that reads least."""

    def token_limit(self, bench: Bench) -> int:
        """Tokens that are read, start and end included."""
