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
        embeddings, _ = model.pipeline.encode_prompt(
            list(texts),
            device=model.pipeline.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
            clip_skip=clip_skip,
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
