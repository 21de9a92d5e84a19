"""Sana and Sana-Sprint: a Gemma 2, a linear transformer, a VAE that compresses 32 times.

The prompt is read after an instruction (of the pipeline's own default), the negative prompt
without. Sizes are binned as in PixArt. The pipelines swallow an out-of-memory error of the
decoder; the decoding here does not.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from storage.contract.items import GroupSpec
from workers.engine.families.base import Bench, DenoiseInputs, Row, Tensor
from workers.engine.families.dit import Transformer, call, count_tokens, rows_of, to_pixels
from workers.engine.families.pixart import decode_binned, masked_texts

if TYPE_CHECKING:
    from workers.engine.families.base import FamilyAdapter


class Sana(Transformer):
    """Text to image."""

    default_tokens = 300

    def encode(
        self, bench: Bench, encoder: str, texts: Sequence[str], *, negative: bool
    ) -> list[Row]:
        """``prompt_embeds`` (300, width), ``prompt_attention_mask`` (300)."""
        embeds, mask = bench.pipeline.encode_prompt(
            list(texts),
            device=bench.device,
            max_sequence_length=self.tokens(bench.spec),
            complex_human_instruction=None if negative else _instruction(bench.pipeline),
            **self._options(),
        )[:2]
        return rows_of(prompt_embeds=embeds, prompt_attention_mask=mask)

    def _options(self) -> dict[str, Any]:
        return {"do_classifier_free_guidance": False}

    def denoise(
        self, bench: Bench, inputs: DenoiseInputs, on_step: Callable[[int], None]
    ) -> Tensor:
        """Shape (n, 32, height / 32, width / 32) at the size the model knows, float32."""
        texts = masked_texts(bench, inputs)
        return call(bench, inputs, on_step, guidance_scale=bench.spec.guidance_scale, **texts)

    def decode(self, bench: Bench, latents: Tensor) -> Tensor:
        """Undo the scaling, decode, bring to the size that was asked for."""
        return to_pixels(decode_binned(bench, latents))

    def count_tokens(self, bench: Bench, text: str) -> int:
        """Tokens of the text after the instruction, and two for its end."""
        pipeline = bench.pipeline
        instruction = "\n".join(_instruction(pipeline) or ())
        (tidy,) = pipeline._text_preprocessing(text, clean_caption=False)
        tokens = count_tokens(pipeline.tokenizer, instruction + tidy)
        return tokens - count_tokens(pipeline.tokenizer, instruction) + 2 if instruction else tokens


class SanaSprint(Sana):
    """Text to image in one to four steps; the guidance is a number the model reads."""

    def needs_negatives(self, spec: GroupSpec) -> bool:
        """Never."""
        return False

    def _options(self) -> dict[str, Any]:
        return {}

    def denoise(
        self, bench: Bench, inputs: DenoiseInputs, on_step: Callable[[int], None]
    ) -> Tensor:
        """Shape (n, 32, height / 32, width / 32) at the size the model knows, float32."""
        texts = masked_texts(bench, inputs)
        del texts["negative_prompt"]
        if bench.spec.num_inference_steps != 2:
            texts["intermediate_timesteps"] = None  # only two steps have one in between
        return call(bench, inputs, on_step, guidance_scale=bench.spec.guidance_scale, **texts)


def _instruction(pipeline: Any) -> list[str] | None:
    """What an ordinary call puts before the prompt."""
    parameters = inspect.signature(type(pipeline).__call__).parameters
    default: list[str] | None = parameters["complex_human_instruction"].default
    return default


if TYPE_CHECKING:
    _adapters: tuple[FamilyAdapter, ...] = (Sana(), SanaSprint())
