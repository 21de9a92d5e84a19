"""Stable Diffusion 3 and 3.5: two CLIPs and a T5, a transformer, an AutoencoderKL.

The T5 may be missing; its part of the embeddings is then zeros, as in diffusers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from storage.contract.errors import ModelUnusable
from storage.contract.items import INPAINT, GroupSpec
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

_TOKENIZERS = {
    "text_encoder": "tokenizer",
    "text_encoder_2": "tokenizer_2",
    "text_encoder_3": "tokenizer_3",
}


class StableDiffusion3(Transformer):
    """Text to image, image to image, inpainting."""

    encoders = tuple(_TOKENIZERS)
    default_tokens = 256

    def encode(
        self, bench: Bench, encoder: str, texts: Sequence[str], *, negative: bool
    ) -> list[Row]:
        """``prompt_embeds`` (tokens, width), and of a CLIP ``pooled_prompt_embeds`` (width)."""
        tokenizer = getattr(bench.pipeline, _TOKENIZERS[encoder])
        model = getattr(bench.pipeline, encoder)
        if encoder == "text_encoder_3":
            tokens = tokenize(tokenizer, texts, self.tokens(bench.spec))
            return rows_of(prompt_embeds=model(tokens.input_ids.to(bench.device))[0])
        # Negative prompts are read to the same depth whatever clip_skip is, as in diffusers.
        skipped = 0 if negative else bench.spec.clip_skip or 0
        rows = _clip_rows(bench, model, tokenizer, texts, skipped)
        config = getattr(bench.pipeline.transformer, "config", None)
        if config is None:
            return rows
        width = _as_tensor(config.joint_attention_dim)
        return [{**row, "joint_attention_dim": width} for row in rows]

    def join(self, spec: GroupSpec, parts: Mapping[str, Row]) -> Row:
        """``prompt_embeds`` (77 + 256, width of the T5), ``pooled_prompt_embeds``."""
        import torch
        from torch.nn.functional import pad

        clips = [parts["text_encoder"], parts["text_encoder_2"]]
        clip = torch.cat([row["prompt_embeds"] for row in clips], dim=-1)
        t5 = _t5_part(parts, clip, self.tokens(spec))
        clip = pad(clip, (0, t5.shape[-1] - clip.shape[-1]))
        return {
            "prompt_embeds": torch.cat([clip, t5], dim=-2),
            "pooled_prompt_embeds": torch.cat(
                [row["pooled_prompt_embeds"] for row in clips], dim=-1
            ),
        }

    def control_latents(self, bench: Bench, pixels: Tensor, generator: Any) -> Tensor:
        """The most probable ones: diffusers draws here, but from no generator it is given."""
        return bench.pipeline.vae.encode(pixels).latent_dist.mode()

    def denoise(
        self, bench: Bench, inputs: DenoiseInputs, on_step: Callable[[int], None]
    ) -> Tensor:
        """Shape (n, 16, height / 8, width / 8)."""
        arguments = pictured(bench, inputs)
        for name in ("prompt_embeds", "pooled_prompt_embeds"):
            arguments[name] = batch_of(bench, inputs.prompts, name)
            if inputs.negatives is not None:
                arguments[f"negative_{name}"] = batch_of(bench, inputs.negatives, name)
        return call(bench, inputs, on_step, guidance_scale=bench.spec.guidance_scale, **arguments)

    def decode(self, bench: Bench, latents: Tensor) -> Tensor:
        """Undo scaling and shift, decode.

        After inpainting, diffusers 0.42.1 undoes the scaling only, though the shift was put in
        (pipeline_stable_diffusion_3_inpaint.py: 753, 1368). Followed, so that the pixels are those
        of its call.
        """
        vae = bench.pipeline.vae
        latents = latents.to(bench.device, vae.dtype) / vae.config.scaling_factor
        if bench.spec.kind != INPAINT:
            latents = latents + vae.config.shift_factor
        return to_pixels(vae.decode(latents, return_dict=False)[0])

    def count_tokens(self, bench: Bench, text: str) -> int:
        """By a CLIP's tokenizer: what is beyond, only the T5 reads."""
        return count_tokens(bench.pipeline.tokenizer, text)

    def token_limit(self, bench: Bench) -> int:
        """Of the CLIPs."""
        return int(bench.pipeline.tokenizer.model_max_length)


def _clip_rows(
    bench: Bench, model: Any, tokenizer: Any, texts: Sequence[str], skipped: int
) -> list[Row]:
    """As `_get_clip_prompt_embeds`, which cannot do without the first CLIP for the second."""
    first = bench.pipeline.tokenizer or tokenizer
    tokens = tokenize(tokenizer, texts, first.model_max_length)
    output = model(tokens.input_ids.to(bench.device), output_hidden_states=True)
    return rows_of(
        prompt_embeds=output.hidden_states[-(skipped + 2)], pooled_prompt_embeds=output[0]
    )


def _t5_part(parts: Mapping[str, Row], clip: Tensor, tokens: int) -> Tensor:
    if "text_encoder_3" in parts:
        return parts["text_encoder_3"]["prompt_embeds"]
    width = parts["text_encoder"].get("joint_attention_dim")
    if width is None:
        raise ModelUnusable(
            "the model has no text_encoder_3, and its transformer's config (joint_attention_dim)"
            " is not there to say what to put in its place"
        )
    return clip.new_zeros((tokens, int(width)))


def _as_tensor(number: int) -> Tensor:
    import torch

    return torch.tensor(number)


if TYPE_CHECKING:
    _adapter: FamilyAdapter = StableDiffusion3()
