"""Stable Diffusion 1.x and 2.x: one CLIP text encoder, a UNet, an AutoencoderKL.

The phases are diffusers' own pipeline with given embeddings and latent output, and what the
pipeline does after that (pipeline_stable_diffusion.py: 1084-1102 in 0.42.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from storage.contract.items import GroupSpec
from storage.contract.samplers import find_sampler
from workers.engine.families.base import DenoiseInputs, Tensor
from workers.engine.models import LoadedModel

if TYPE_CHECKING:
    from workers.engine.families.base import FamilyAdapter


class StableDiffusion:
    """Text to image."""

    def encode(self, model: LoadedModel, texts: Sequence[str], clip_skip: int | None) -> Tensor:
        """Shape (n, 77, width of the text encoder)."""
        pipeline = model.pipeline
        if clip_skip is not None:
            return _encode_skipping(pipeline, texts, clip_skip)
        embeddings, _ = pipeline.encode_prompt(
            list(texts),
            device=pipeline.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
        return embeddings

    def denoise(
        self,
        model: LoadedModel,
        spec: GroupSpec,
        inputs: DenoiseInputs,
        on_step: Callable[[int], None],
    ) -> Tensor:
        """Shape (n, 4, height / 8, width / 8)."""
        pipeline = model.pipeline
        own_scheduler = pipeline.scheduler
        # A fresh one per call: samplers keep state, and a broken-off call leaves it behind.
        pipeline.scheduler = make_scheduler(spec.scheduler, own_scheduler)
        try:
            return pipeline(
                prompt_embeds=inputs.prompts,
                negative_prompt_embeds=inputs.negatives,
                width=spec.width,
                height=spec.height,
                num_inference_steps=spec.num_inference_steps,
                guidance_scale=spec.guidance_scale,
                generator=list(inputs.generators),
                output_type="latent",
                callback_on_step_end=_stepper(on_step),
                callback_on_step_end_tensor_inputs=[],
            ).images
        finally:
            pipeline.scheduler = own_scheduler

    def decode(self, model: LoadedModel, latents: Tensor) -> Tensor:
        """Undo the latents' scaling, decode, shift from -1..1 to 0..1."""
        vae = model.pipeline.vae
        scaled = latents.to(vae.dtype) / vae.config.scaling_factor
        decoded = vae.decode(scaled, return_dict=False)[0]
        return decoded.float() / 2 + 0.5

    def count_tokens(self, model: LoadedModel, text: str) -> int:
        """What the tokenizer makes of the whole text."""
        return len(model.pipeline.tokenizer(text, truncation=False).input_ids)


def _encode_skipping(pipeline: Any, texts: Sequence[str], clip_skip: int) -> Tensor:
    """As `encode_prompt` with ``clip_skip``.

    diffusers 0.42 looks for the last norm where transformers 5 no longer has it.
    """
    tokens = pipeline.tokenizer(
        list(texts),
        padding="max_length",
        max_length=pipeline.tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    encoder = pipeline.text_encoder
    masked = getattr(encoder.config, "use_attention_mask", False)
    states = encoder(
        tokens.input_ids.to(pipeline.device),
        attention_mask=tokens.attention_mask.to(pipeline.device) if masked else None,
        output_hidden_states=True,
    ).hidden_states
    inner = getattr(encoder, "text_model", encoder)
    return inner.final_layer_norm(states[-(clip_skip + 1)])


def make_scheduler(name: str, own: Any) -> Any:
    """The sampler of that name with the model's own settings, save those that make it."""
    import diffusers

    sampler = find_sampler(name)
    kind = getattr(diffusers, sampler.scheduler_class)
    return kind.from_config(own.config, **dict(sampler.overrides))


def _stepper(on_step: Callable[[int], None]) -> Callable[..., dict[str, Any]]:
    def after_step(_pipeline: Any, step: int, _timestep: Any, kwargs: dict[str, Any]) -> Any:
        on_step(step + 1)
        return kwargs

    return after_step


if TYPE_CHECKING:
    _adapter: FamilyAdapter = StableDiffusion()
