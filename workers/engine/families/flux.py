"""FLUX.1 dev and schnell: a CLIP's summary, a T5, a transformer on packed latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from storage.contract.items import GroupSpec
from workers.engine.families.base import Bench, DenoiseInputs, Row, Tensor
from workers.engine.families.dit import (
    Transformer,
    batch_of,
    call,
    count_tokens,
    pictured,
    rows_of,
    to_pixels,
    tokenize,
)

if TYPE_CHECKING:
    from workers.engine.families.base import FamilyAdapter


class Flux(Transformer):
    """Text to image, image to image, inpainting.

    `guidance_scale` is a number the model reads; negative prompts are computed beside only where
    `true_cfg_scale` is above 1.
    """

    encoders = ("text_encoder", "text_encoder_2")

    def needs_negatives(self, spec: GroupSpec) -> bool:
        """Only with true classifier-free guidance."""
        return spec.true_cfg_scale is not None and spec.true_cfg_scale > 1

    def encode(
        self, bench: Bench, encoder: str, texts: Sequence[str], *, negative: bool
    ) -> list[Row]:
        """Of the CLIP ``pooled_prompt_embeds`` (768), of the T5 ``prompt_embeds`` (512, 4096)."""
        pipeline = bench.pipeline
        if encoder == "text_encoder":
            tokens = tokenize(pipeline.tokenizer, texts, pipeline.tokenizer.model_max_length)
            output = pipeline.text_encoder(tokens.input_ids.to(bench.device))
            return rows_of(pooled_prompt_embeds=output.pooler_output)
        tokens = tokenize(pipeline.tokenizer_2, texts, self.tokens(bench.spec))
        output = pipeline.text_encoder_2(tokens.input_ids.to(bench.device))
        return rows_of(prompt_embeds=output[0])

    def denoise(
        self, bench: Bench, inputs: DenoiseInputs, on_step: Callable[[int], None]
    ) -> Tensor:
        """Packed: shape (n, height / 16 * width / 16, 64)."""
        arguments = pictured(bench, inputs)
        for name in ("prompt_embeds", "pooled_prompt_embeds"):
            arguments[name] = batch_of(bench, inputs.prompts, name)
            if inputs.negatives is not None:
                arguments[f"negative_{name}"] = batch_of(bench, inputs.negatives, name)
        if inputs.negatives is not None:
            arguments["true_cfg_scale"] = bench.spec.true_cfg_scale
        return call(bench, inputs, on_step, guidance_scale=bench.spec.guidance_scale, **arguments)

    def decode(self, bench: Bench, latents: Tensor) -> Tensor:
        """Unpack, undo scaling and shift, decode."""
        pipeline, spec = bench.pipeline, bench.spec
        vae = pipeline.vae
        unpacked = pipeline._unpack_latents(
            latents.to(bench.device, vae.dtype), spec.height, spec.width, pipeline.vae_scale_factor
        )
        scaled = unpacked / vae.config.scaling_factor + vae.config.shift_factor
        return to_pixels(vae.decode(scaled, return_dict=False)[0])

    def count_tokens(self, bench: Bench, text: str) -> int:
        """By the T5's tokenizer: the CLIP, which reads less, gives only a summary."""
        return count_tokens(bench.pipeline.tokenizer_2, text)


if TYPE_CHECKING:
    _adapter: FamilyAdapter = Flux()
