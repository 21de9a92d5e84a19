"""FLUX.2: a language model's inner layers as embeddings, a VAE with batch statistics.

`Flux2` (dev) reads its guidance as a number and knows no negative prompt; `Flux2Klein` has
classifier-free guidance, unless the model is distilled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from storage.contract.items import GroupSpec
from workers.engine.families.base import Bench, DenoiseInputs, Row, Tensor
from workers.engine.families.control import standing_in
from workers.engine.families.dit import (
    Transformer,
    batch_of,
    call,
    count_tokens,
    rows_of,
    to_pixels,
)

if TYPE_CHECKING:
    from workers.engine.families.base import FamilyAdapter


class Flux2(Transformer):
    """Text to image with the dev model."""

    def needs_negatives(self, spec: GroupSpec) -> bool:
        """Never."""
        return False

    def encode(
        self, bench: Bench, encoder: str, texts: Sequence[str], *, negative: bool
    ) -> list[Row]:
        """``prompt_embeds`` (512, three layers' widths)."""
        embeds, _ = bench.pipeline.encode_prompt(
            list(texts), device=bench.device, max_sequence_length=self.tokens(bench.spec)
        )
        return rows_of(prompt_embeds=embeds)

    def denoise(
        self, bench: Bench, inputs: DenoiseInputs, on_step: Callable[[int], None]
    ) -> Tensor:
        """Packed and standardised: shape (n, height / 16 * width / 16, 128)."""
        return call(
            bench,
            inputs,
            on_step,
            prompt_embeds=batch_of(bench, inputs.prompts, "prompt_embeds"),
            guidance_scale=bench.spec.guidance_scale,
        )

    def decode(self, bench: Bench, latents: Tensor) -> Tensor:
        """Unpack, undo the standardisation by the VAE's statistics, unfold, decode."""
        pipeline, spec = bench.pipeline, bench.spec
        vae = pipeline.vae
        patch = pipeline.vae_scale_factor * 2
        packed = latents.to(bench.device, vae.dtype)
        grid = packed.transpose(1, 2).unflatten(2, (spec.height // patch, spec.width // patch))
        mean, std = _statistics(vae, grid)
        unfolded = pipeline._unpatchify_latents(grid * std + mean)
        return to_pixels(vae.decode(unfolded, return_dict=False)[0])

    def count_tokens(self, bench: Bench, text: str) -> int:
        """Tokens of the text within its chat, the system message included."""
        from diffusers.pipelines.flux2.pipeline_flux2 import format_input

        pipeline = bench.pipeline
        tokens = pipeline.tokenizer.apply_chat_template(
            format_input([text], pipeline.system_message),
            add_generation_prompt=False,
            tokenize=True,
            return_dict=True,
        )
        return len(tokens["input_ids"][0])


class Flux2Klein(Flux2):
    """Text to image with the small models, whose text encoder is a Qwen3."""

    def needs_negatives(self, spec: GroupSpec) -> bool:
        """Above a guidance scale of 1; diffusers itself only knows the empty one."""
        return spec.guidance_scale > 1

    def denoise(
        self, bench: Bench, inputs: DenoiseInputs, on_step: Callable[[int], None]
    ) -> Tensor:
        """Standardised: shape (n, 32, height / 8, width / 8).

        This pipeline unpacks also what it hands out as latents, and undoes the standardisation
        by the VAE's statistics, which are not there yet: it is given some that change nothing.
        """
        pipeline = bench.pipeline
        arguments = {"prompt_embeds": batch_of(bench, inputs.prompts, "prompt_embeds")}
        distilled = pipeline.config.is_distilled
        if inputs.negatives is not None and not distilled:
            negatives = batch_of(bench, inputs.negatives, "prompt_embeds")
            arguments["negative_prompt_embeds"] = negatives
        # A distilled model ignores the scale, and the pipeline warns of any above 1.
        scale = 1.0 if distilled else bench.spec.guidance_scale
        with standing_in(pipeline, _NoStatistics(pipeline.transformer.config.in_channels)):
            return call(bench, inputs, on_step, guidance_scale=scale, **arguments)

    def decode(self, bench: Bench, latents: Tensor) -> Tensor:
        """Undo the standardisation by the VAE's statistics, decode."""
        pipeline = bench.pipeline
        vae = pipeline.vae
        folded = pipeline._patchify_latents(latents.to(bench.device, vae.dtype))
        mean, std = _statistics(vae, folded)
        unfolded = pipeline._unpatchify_latents(folded * std + mean)
        return to_pixels(vae.decode(unfolded, return_dict=False)[0])

    def count_tokens(self, bench: Bench, text: str) -> int:
        """Tokens of the text within its chat template."""
        tokenizer = bench.pipeline.tokenizer
        whole = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
        return count_tokens(tokenizer, whole)


class _NoStatistics:
    """Stands for the VAE: a mean of 0 and a variance of 1 for each of its folded channels."""

    def __init__(self, channels: int) -> None:
        import torch

        self.config = SimpleNamespace(batch_norm_eps=0.0)
        self.bn = SimpleNamespace(
            running_mean=torch.zeros(channels), running_var=torch.ones(channels)
        )


def _statistics(vae: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    """The latents' mean and standard deviation, per channel."""
    import torch

    mean = vae.bn.running_mean.view(1, -1, 1, 1)
    std = torch.sqrt(vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps)
    return mean.to(like.device, like.dtype), std.to(like.device, like.dtype)


if TYPE_CHECKING:
    _adapters: tuple[FamilyAdapter, ...] = (Flux2(), Flux2Klein())
