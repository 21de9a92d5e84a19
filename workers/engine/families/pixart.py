"""PixArt-alpha and PixArt-Sigma: a T5, a transformer, an AutoencoderKL.

As in diffusers, an image is made at the nearest size the model knows of about its proportions,
then scaled and cropped to what was asked for (resolution binning).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from workers.engine.families.base import Bench, DenoiseInputs, Row, Tensor
from workers.engine.families.dit import Transformer, batch_of, count_tokens, rows_of, run, to_pixels

if TYPE_CHECKING:
    from workers.engine.families.base import FamilyAdapter


class PixArt(Transformer):
    """Text to image with PixArt-Sigma."""

    default_tokens = 300

    def encode(
        self, bench: Bench, encoder: str, texts: Sequence[str], *, negative: bool
    ) -> list[Row]:
        """``prompt_embeds`` (tokens, width), ``prompt_attention_mask`` (tokens)."""
        embeds, mask, _, _ = bench.pipeline.encode_prompt(
            list(texts),
            do_classifier_free_guidance=False,
            device=bench.device,
            max_sequence_length=self.token_limit(bench),
        )
        return rows_of(prompt_embeds=embeds, prompt_attention_mask=mask)

    def denoise(
        self, bench: Bench, inputs: DenoiseInputs, on_step: Callable[[int], None]
    ) -> Tensor:
        """Shape (n, 4, height / 8, width / 8) at the size the model knows."""

        def after_step(step: int, _timestep: Any, _latents: Tensor) -> None:
            on_step(step + 1)

        return run(
            bench,
            inputs,
            guidance_scale=bench.spec.guidance_scale,
            callback=after_step,
            **masked_texts(bench, inputs),
        )

    def decode(self, bench: Bench, latents: Tensor) -> Tensor:
        """Undo the scaling, decode, bring to the size that was asked for."""
        return to_pixels(decode_binned(bench, latents))

    def count_tokens(self, bench: Bench, text: str) -> int:
        """By the T5's tokenizer, after the pipeline's own tidying of the text."""
        pipeline = bench.pipeline
        (tidy,) = pipeline._text_preprocessing(text, clean_caption=False)
        return count_tokens(pipeline.tokenizer, tidy)


class PixArtAlpha(PixArt):
    """Text to image with PixArt-alpha."""

    default_tokens = 120


def masked_texts(bench: Bench, inputs: DenoiseInputs) -> dict[str, Any]:
    """The call's arguments for the slots' texts.

    The masks are not moved by the pipeline, and its default negative prompt must be taken back
    where embeddings are given.
    """
    arguments: dict[str, Any] = {"negative_prompt": None}
    for prefix, rows in (("", inputs.prompts), ("negative_", inputs.negatives)):
        if rows is not None:
            arguments[f"{prefix}prompt_embeds"] = batch_of(bench, rows, "prompt_embeds")
            mask = batch_of(bench, rows, "prompt_attention_mask")
            arguments[f"{prefix}prompt_attention_mask"] = mask
    return arguments


def decode_binned(bench: Bench, latents: Tensor) -> Tensor:
    """Undo the scaling, decode, bring to the group's size; in -1 to 1."""
    pipeline, spec = bench.pipeline, bench.spec
    vae = pipeline.vae
    scaled = latents.to(bench.device, vae.dtype) / vae.config.scaling_factor
    decoded = vae.decode(scaled, return_dict=False)[0]
    return pipeline.image_processor.resize_and_crop_tensor(decoded, spec.width, spec.height)


if TYPE_CHECKING:
    _adapters: tuple[FamilyAdapter, ...] = (PixArt(), PixArtAlpha())
