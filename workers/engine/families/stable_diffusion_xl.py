"""SDXL: two CLIP text encoders, and its refiner with the second alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from storage.contract.items import GroupSpec
from workers.engine import prompts
from workers.engine.families.base import Bench, DenoiseInputs, Row, Tensor
from workers.engine.families.classic import Classic, stacked, tokenized
from workers.engine.families.upscale import in_float32_if_needed

if TYPE_CHECKING:
    from workers.engine.families.base import FamilyAdapter

_TOKENIZERS = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}


class StableDiffusionXL(Classic):
    """Text to image, image to image and inpainting."""

    encoders: tuple[str, ...] = ("text_encoder", "text_encoder_2")
    upcasts = True

    def encode(
        self, bench: Bench, encoder: str, texts: Sequence[str], *, negative: bool
    ) -> list[Row]:
        """``prompt_embeds`` of shape (77 a chunk, width), and the second encoder's summary too.

        An empty negative prompt is all zeros where the model's ``force_zeros_for_empty_prompt``
        says so (SDXL's own does, its refiner's does not): as diffusers when none is given, and as
        the original scripts. Encoding the empty text instead gives other pictures.
        """
        pipeline = bench.pipeline
        model = getattr(pipeline, encoder)
        tokenizer = getattr(pipeline, _TOKENIZERS[encoder])
        tokens = tokenized(tokenizer, prompts.plain_texts(texts, bench.spec))
        outputs = model(tokens.input_ids.to(bench.device), output_hidden_states=True)
        skipped = 0 if negative else bench.spec.clip_skip or 0
        states = outputs.hidden_states[-(skipped + 2)]
        if prompts.is_chunked(bench.spec):  # the summary stays that of the first, unweighted
            states = prompts.chunked_states(
                tokenizer, model, texts, bench.spec, partial(_hidden, model, skipped)
            )
        rows: list[dict[str, Tensor]] = [{"prompt_embeds": state.cpu()} for state in states]
        if outputs[0].ndim == 2:
            for row, summary in zip(rows, outputs[0].cpu(), strict=True):
                row["pooled_prompt_embeds"] = summary
        if not (negative and pipeline.config.force_zeros_for_empty_prompt):
            return list(rows)
        return [
            row if text else {name: value.new_zeros(value.shape) for name, value in row.items()}
            for text, row in zip(texts, rows, strict=True)
        ]

    def join(self, spec: GroupSpec, parts: Mapping[str, Row]) -> Row:
        """States side by side, shape (77, 2048); the summary is the last encoder's."""
        import torch

        rows = [parts[name] for name in self.encoders]
        return {
            "prompt_embeds": torch.cat([row["prompt_embeds"] for row in rows], dim=-1),
            "pooled_prompt_embeds": rows[-1]["pooled_prompt_embeds"],
        }

    def embeddings(self, bench: Bench, inputs: DenoiseInputs) -> dict[str, Any]:
        """States and summaries."""
        given = super().embeddings(bench, inputs)
        given["pooled_prompt_embeds"] = stacked(inputs.prompts, "pooled_prompt_embeds", bench)
        if inputs.negatives is not None:
            given["negative_pooled_prompt_embeds"] = stacked(
                inputs.negatives, "pooled_prompt_embeds", bench
            )
        return given

    def decode(self, bench: Bench, latents: Tensor) -> Tensor:
        """Shape (n, 3, height, width); a VAE that overflows in float16 computes in float32."""
        return in_float32_if_needed(bench.pipeline.vae, latents, _decode_normalised)


class Refiner(StableDiffusionXL):
    """Paints a picture's details anew; diffusers' aesthetic scores, 6 and 2.5, steer it."""

    encoders: tuple[str, ...] = ("text_encoder_2",)
    tokenizer = "tokenizer_2"


def _hidden(model: Any, skipped: int, tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Shape (n, 77, width)."""
    outputs = model(tokens, attention_mask=mask, output_hidden_states=True)
    return outputs.hidden_states[-(skipped + 2)]


def _decode_normalised(vae: Any, latents: Tensor) -> Tensor:
    """As SDXL's pipeline (pipeline_stable_diffusion_xl.py: 1274-1289 in 0.42.1)."""
    import torch

    latents = latents.to(vae.dtype)
    mean, std = (getattr(vae.config, name, None) for name in ("latents_mean", "latents_std"))
    if mean is not None and std is not None:
        shift, spread = (torch.tensor(v).view(1, -1, 1, 1).to(latents) for v in (mean, std))
        scaled = latents * spread / vae.config.scaling_factor + shift
    else:
        scaled = latents / vae.config.scaling_factor
    return vae.decode(scaled, return_dict=False)[0].float() / 2 + 0.5


if TYPE_CHECKING:
    _adapters: list[FamilyAdapter] = [StableDiffusionXL(), Refiner()]
