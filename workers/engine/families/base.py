"""What an adapter offers to the phases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from storage.contract.items import GroupSpec
from workers.engine.models import LoadedModel

Tensor = Any
"""A torch tensor; the shape is said where it is used."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DenoiseInputs:
    """The rows of one denoising batch."""

    prompts: Tensor  #: embeddings
    negatives: Tensor | None  #: embeddings of the negative prompts; None without guidance
    generators: Sequence[Any]  #: each row's own source of noise


class FamilyAdapter(Protocol):
    """The three phases of one family. Every batch dimension is exactly what is passed in."""

    def encode(self, model: LoadedModel, texts: Sequence[str], clip_skip: int | None) -> Tensor:
        """Embeddings of `texts`, one row each."""

    def denoise(
        self,
        model: LoadedModel,
        spec: GroupSpec,
        inputs: DenoiseInputs,
        on_step: Callable[[int], None],
    ) -> Tensor:
        """Latents, one per row of `inputs`.

        `on_step` is called with the number of each finished step, and may raise.
        """

    def decode(self, model: LoadedModel, latents: Tensor) -> Tensor:
        """Pictures of shape (n, 3, height, width), float32 in 0 to 1, not yet clamped."""

    def count_tokens(self, model: LoadedModel, text: str) -> int:
        """Tokens of `text`, start and end included."""
