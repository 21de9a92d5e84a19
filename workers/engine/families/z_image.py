"""Z-Image: a Qwen3 that reads the prompt as a chat, one sequence of picture and text.

Texts have as many tokens as they have. Diffusers fills the sequences of a call up to the longest
and masks the rest where lengths differ, so that the pixels of an image depend (by rounding) on its
neighbours' prompts, and on its own negative prompt's length. Here every sequence is computed by a
call of its own, without a mask: an image is the same in every batch, and without guidance bit for
bit what diffusers makes of it alone. At the sizes this model is made for, one image fills a device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from storage.contract.items import GroupSpec
from workers.engine.families.base import Bench, DenoiseInputs, Row, Tensor
from workers.engine.families.control import standing_in
from workers.engine.families.dit import (
    Transformer,
    call,
    count_tokens,
    forward_of,
    pictured,
    placed,
    to_pixels,
)

if TYPE_CHECKING:
    from workers.engine.families.base import FamilyAdapter


class ZImage(Transformer):
    """Text to image, image to image, inpainting."""

    def needs_negatives(self, spec: GroupSpec) -> bool:
        """Above 0: the scale is what is added to the prediction, one less than elsewhere."""
        return spec.guidance_scale > 0

    def encode(
        self, bench: Bench, encoder: str, texts: Sequence[str], *, negative: bool
    ) -> list[Row]:
        """``prompt_embeds`` (tokens, width), as long as the text is.

        The pipeline's method writes the templated texts into the list it is given.
        """
        embeds = bench.pipeline._encode_prompt(
            list(texts), device=bench.device, max_sequence_length=self.tokens(bench.spec)
        )
        return [{"prompt_embeds": row.cpu()} for row in embeds]

    def denoise(
        self, bench: Bench, inputs: DenoiseInputs, on_step: Callable[[int], None]
    ) -> Tensor:
        """Shape (n, 16, height / 8, width / 8), float32."""
        arguments = pictured(bench, inputs)
        if arguments:
            _take_latents(bench.pipeline)
        arguments["prompt_embeds"] = _texts(bench, inputs.prompts)
        if inputs.negatives is not None:
            arguments["negative_prompt_embeds"] = _texts(bench, inputs.negatives)
        vae = _UnusedVae(bench.pipeline.vae)
        with _one_by_one(bench), standing_in(bench.pipeline, vae):
            return call(
                bench, inputs, on_step, guidance_scale=bench.spec.guidance_scale, **arguments
            )

    def decode(self, bench: Bench, latents: Tensor) -> Tensor:
        """Undo scaling and shift, decode."""
        vae = bench.pipeline.vae
        scaled = latents.to(bench.device, vae.dtype) / vae.config.scaling_factor
        return to_pixels(vae.decode(scaled + vae.config.shift_factor, return_dict=False)[0])

    def count_tokens(self, bench: Bench, text: str) -> int:
        """Tokens of the text within its chat template."""
        tokenizer = bench.pipeline.tokenizer
        whole = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=True,
        )
        return count_tokens(tokenizer, whole)


class _UnusedVae:
    """Stands for the VAE when inpainting, where the pipeline encodes what it never looks at."""

    def __init__(self, vae: Any) -> None:
        self.config = vae.config

    def encode(self, masked: Tensor) -> Any:
        """Of the masked picture, which is given as latents already."""
        return SimpleNamespace(latents=masked)


def _take_latents(pipeline: Any) -> None:
    """Let the image processor know latents when it sees them: the class forgets to tell it."""
    from diffusers.image_processor import VaeImageProcessor

    pipeline.image_processor = VaeImageProcessor(
        vae_scale_factor=pipeline.vae_scale_factor * 2,
        vae_latent_channels=pipeline.transformer.in_channels,
    )


def _texts(bench: Bench, rows: Sequence[Row]) -> list[Tensor]:
    return [placed(bench, row["prompt_embeds"]) for row in rows]


@contextmanager
def _one_by_one(bench: Bench) -> Iterator[None]:
    """Let the transformer compute each sequence of a batch by itself, without padding."""
    transformer = bench.pipeline.transformer
    whole = transformer.forward

    def forward(
        pictures: list[Tensor],
        times: Tensor,
        texts: list[Tensor],
        *,
        return_dict: bool = True,
        **settings: Any,
    ) -> tuple[list[Tensor]]:
        outputs = []
        for slot, (picture, text) in enumerate(zip(pictures, texts, strict=True)):
            time = times[slot : slot + 1]
            outputs += whole([picture], time, [text], return_dict=False, **settings)[0]
        return (outputs,)

    with forward_of(transformer, forward):
        yield


if TYPE_CHECKING:
    _adapter: FamilyAdapter = ZImage()
