"""Stable Diffusion 1.x and 2.x: one CLIP text encoder, a UNet, an AutoencoderKL.

The phases are diffusers' own pipeline with given embeddings and latent output, and what the
pipeline does after that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from storage.contract.items import GroupSpec
from workers.engine.families.base import Bench, DenoiseInputs, Inputs, Phase, Row, Tensor
from workers.engine.families.classic import (
    count_tokens,
    decode_kl,
    sampling,
    stacked,
    stepper,
    tokenized,
)

if TYPE_CHECKING:
    from workers.engine.families.base import FamilyAdapter


class StableDiffusion:
    """Text to image."""

    def components(self, spec: GroupSpec, phase: Phase) -> tuple[str, ...]:
        """The text encoder, nothing, the UNet, the VAE."""
        return {
            Phase.ENCODE: ("text_encoder",),
            Phase.CONDITION: (),
            Phase.DENOISE: ("unet",),
            Phase.DECODE: ("vae",),
        }[phase]

    def needs_negatives(self, spec: GroupSpec) -> bool:
        """With classifier-free guidance, which diffusers does above 1."""
        return spec.guidance_scale > 1

    def encode(
        self, bench: Bench, encoder: str, texts: Sequence[str], *, negative: bool
    ) -> list[Row]:
        """``prompt_embeds`` of shape (77, width of the text encoder).

        Negative prompts are read to the encoder's last layer, as diffusers does.
        """
        states = _states(bench, texts, None if negative else bench.spec.clip_skip)
        return [{"prompt_embeds": row} for row in states.cpu()]

    def join(self, spec: GroupSpec, parts: Mapping[str, Row]) -> Row:
        """There is one encoder."""
        return parts["text_encoder"]

    def condition(
        self, bench: Bench, inputs: Sequence[Inputs], generators: Sequence[Any]
    ) -> list[Row]:
        """Nothing."""
        return [{} for _ in inputs]

    def denoise(
        self, bench: Bench, inputs: DenoiseInputs, on_step: Callable[[int], None]
    ) -> Tensor:
        """Shape (n, 4, height / 8, width / 8)."""
        spec = bench.spec
        negatives = inputs.negatives
        with sampling(bench) as pipeline:
            return pipeline(
                prompt_embeds=stacked(inputs.prompts, "prompt_embeds", bench),
                negative_prompt_embeds=(
                    None if negatives is None else stacked(negatives, "prompt_embeds", bench)
                ),
                width=spec.width,
                height=spec.height,
                num_inference_steps=spec.num_inference_steps,
                guidance_scale=spec.guidance_scale,
                generator=list(inputs.generators),
                output_type="latent",
                callback_on_step_end=stepper(on_step),
                callback_on_step_end_tensor_inputs=[],
            ).images

    def decode(self, bench: Bench, latents: Tensor) -> Tensor:
        """Shape (n, 3, height, width)."""
        return decode_kl(bench.pipeline.vae, latents)

    def count_tokens(self, bench: Bench, text: str) -> int:
        """What the tokenizer makes of the whole text."""
        return count_tokens(bench.pipeline.tokenizer, text)

    def token_limit(self, bench: Bench) -> int:
        """What the tokenizer cuts at."""
        return int(bench.pipeline.tokenizer.model_max_length)


def _states(bench: Bench, texts: Sequence[str], clip_skip: int | None) -> Tensor:
    """Shape (n, 77, width), as `encode_prompt` gives them.

    diffusers 0.42 looks for the last norm where transformers 5 no longer has it, so with
    ``clip_skip`` its own method fails.
    """
    encoder = bench.pipeline.text_encoder
    tokens = tokenized(bench.pipeline.tokenizer, texts)
    masked = getattr(encoder.config, "use_attention_mask", False)
    outputs = encoder(
        tokens.input_ids.to(bench.device),
        attention_mask=tokens.attention_mask.to(bench.device) if masked else None,
        output_hidden_states=clip_skip is not None,
    )
    if clip_skip is None:
        return outputs[0]
    inner = getattr(encoder, "text_model", encoder)
    return inner.final_layer_norm(outputs.hidden_states[-(clip_skip + 1)])


if TYPE_CHECKING:
    _adapter: FamilyAdapter = StableDiffusion()
