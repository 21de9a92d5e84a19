"""What the adapters of transformer models share: rows, batches of rows, and the call.

The phases of all of them are: a text encoder's output, cut into rows; the family's own diffusers
pipeline with given embeddings and latent output; and what that pipeline does after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from storage.contract.items import IMAGE_TO_IMAGE, INPAINT, GroupSpec
from workers.engine.families.base import Bench, DenoiseInputs, Inputs, Phase, Picture, Row, Tensor
from workers.engine.families.classic import make_scheduler, stepper
from workers.engine.families.control import EncodedBefore, control_options, standing_in


class Transformer:
    """The part of an adapter that is the same for all: which components a phase needs."""

    encoders: tuple[str, ...] = ("text_encoder",)
    default_tokens = 512
    """What diffusers reads of a text unless told otherwise."""

    def components(self, spec: GroupSpec, phase: Phase) -> tuple[str, ...]:
        """Components with weights that `phase` needs at once."""
        if phase is Phase.ENCODE:
            return self.encoders
        if phase is Phase.CONDITION:
            return ("vae",) if spec.needs_picture or spec.controlnets else ()
        if phase is Phase.DENOISE:
            nets = (f"controlnet.{number}" for number in range(len(spec.controlnets)))
            return ("transformer", *nets)
        return ("vae",)

    def needs_negatives(self, spec: GroupSpec) -> bool:
        """Above a guidance scale of 1 the negative prompt is computed beside."""
        return spec.guidance_scale > 1

    def tokens(self, spec: GroupSpec) -> int:
        """What is read of a text by the encoder that reads most."""
        asked = spec.max_sequence_length
        return self.default_tokens if asked is None else asked

    def token_limit(self, bench: Bench) -> int:
        """Tokens that are read."""
        return self.tokens(bench.spec)

    def join(self, spec: GroupSpec, parts: Mapping[str, Row]) -> Row:
        """The parts side by side."""
        return {name: value for part in parts.values() for name, value in part.items()}

    def condition(
        self, bench: Bench, inputs: Sequence[Inputs], generators: Sequence[Any]
    ) -> list[Row]:
        """``image_latents``, and where a mask is given ``mask_image`` at the latents' size.

        One picture after the other, as the pipelines do with a list of generators.
        """
        return [
            self._conditioned(bench, one, generator)
            for one, generator in zip(inputs, generators, strict=True)
        ]

    def _conditioned(self, bench: Bench, inputs: Inputs, generator: Any) -> Row:
        row: dict[str, Tensor] = {}
        if inputs.image is not None:
            pixels = preprocess(bench, inputs.image)
            row["image_latents"] = self.latents_of(bench, pixels, generator)[0].cpu()
        if inputs.mask_image is not None:
            row["mask_image"] = _latent_mask(bench, inputs.mask_image)
        for number, control in enumerate(inputs.control_images):
            latents = self.control_latents(bench, preprocess(bench, control), generator)
            row[f"control_{number}"] = latents[0].cpu()
        return row

    def control_latents(self, bench: Bench, pixels: Tensor, generator: Any) -> Tensor:
        """Shape (1, channels, height, width): what the VAE makes of a control picture."""
        return sampled(bench.pipeline.vae.encode(pixels), generator)

    def latents_of(self, bench: Bench, pixels: Tensor, generator: Any) -> Tensor:
        """Shape (1, channels, height, width): the picture as the denoiser sees latents."""
        vae = bench.pipeline.vae
        shift = vae.config.shift_factor
        return (sampled(vae.encode(pixels), generator) - shift) * vae.config.scaling_factor


def rows_of(**tensors: Tensor) -> list[Row]:
    """One row for each entry of the tensors' batch dimension, on the host."""
    columns = [tensor.cpu().unbind(0) for tensor in tensors.values()]
    return [dict(zip(tensors, values, strict=True)) for values in zip(*columns, strict=True)]


def batch_of(bench: Bench, rows: Iterable[Row], name: str) -> Tensor:
    """That entry of the rows as one tensor on the device; numbers in the denoiser's dtype."""
    import torch

    return placed(bench, torch.stack([row[name] for row in rows]))


def placed(bench: Bench, tensor: Tensor) -> Tensor:
    """The tensor where the denoiser takes it: its pipelines move nothing that is given."""
    if tensor.is_floating_point():
        return tensor.to(bench.device, bench.dtype)
    return tensor.to(bench.device)


def tokenize(tokenizer: Any, texts: Sequence[str], length: int) -> Any:
    """Token ids and attention mask of shape (n, `length`): filled up or cut off."""
    return tokenizer(
        list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )


def call(
    bench: Bench, inputs: DenoiseInputs, on_step: Callable[[int], None], **arguments: Any
) -> Tensor:
    """What the bench's pipeline makes of these slots, as latents."""
    return run(
        bench,
        inputs,
        callback_on_step_end=stepper(on_step),
        callback_on_step_end_tensor_inputs=[],
        **arguments,
    )


def run(bench: Bench, inputs: DenoiseInputs, **arguments: Any) -> Tensor:
    """`call` for a pipeline that tells its steps in its own way."""
    pipeline, spec = bench.pipeline, bench.spec
    own = pipeline.scheduler
    controls = [
        batch_of(bench, inputs.conditions, f"control_{number}")
        for number in range(len(spec.controlnets))
    ]
    vae = EncodedBefore(bench, controls) if controls else pipeline.vae
    # A fresh one per call: samplers keep state, and a broken-off call leaves it behind.
    pipeline.scheduler = make_scheduler(spec.scheduler, own)
    try:
        with standing_in(pipeline, vae):
            return pipeline(
                width=spec.width,
                height=spec.height,
                num_inference_steps=spec.num_inference_steps,
                generator=list(inputs.generators),
                output_type="latent",
                **control_options(bench, inputs),
                **arguments,
            ).images
    finally:
        pipeline.scheduler = own


def pictured(bench: Bench, inputs: DenoiseInputs) -> dict[str, Any]:
    """The call's arguments for the slots' pictures: none for text to image."""
    spec = bench.spec
    if spec.kind not in {IMAGE_TO_IMAGE, INPAINT}:
        return {}
    latents = batch_of(bench, inputs.conditions, "image_latents")
    arguments: dict[str, Any] = {"image": latents}
    if spec.strength is not None:
        arguments["strength"] = spec.strength
    if spec.kind == INPAINT:
        arguments["mask_image"] = batch_of(bench, inputs.conditions, "mask_image")
        # Only transformers with further input channels for it look at this; ours have none.
        arguments["masked_image_latents"] = latents
    return arguments


def preprocess(bench: Bench, picture: Picture) -> Tensor:
    """Shape (1, 3, height, width) in -1 to 1, as the VAE takes it."""
    vae, spec = bench.pipeline.vae, bench.spec
    pixels = bench.pipeline.image_processor.preprocess(
        picture, height=spec.height, width=spec.width
    )
    return pixels.to(bench.device, vae.dtype)


def sampled(encoded: Any, generator: Any) -> Tensor:
    """Latents of a VAE's output, drawn from `generator` where it is a distribution."""
    if hasattr(encoded, "latent_dist"):
        return encoded.latent_dist.sample(generator)
    return encoded.latents


def _latent_mask(bench: Bench, mask: Picture) -> Tensor:
    """Shape (1, height, width) of the latents, 0 or 1.

    The pipelines bring it to that size by the same rule, after the call has enlarged it by the
    same rule again, which gives back the same values: rows stay 64 times smaller.
    """
    from torch.nn.functional import interpolate

    pipeline, spec = bench.pipeline, bench.spec
    full = pipeline.mask_processor.preprocess(mask, height=spec.height, width=spec.width)
    scale = pipeline.vae_scale_factor
    return interpolate(full, size=(spec.height // scale, spec.width // scale))[0]


def to_pixels(decoded: Tensor) -> Tensor:
    """From -1..1 to 0..1, in float32."""
    return decoded.float() / 2 + 0.5


@contextmanager
def forward_of(module: Any, forward: Callable[..., Any]) -> Iterator[None]:
    """Let calls of `module` run `forward` for a while; hooks keep theirs, around and inside."""
    before = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before


def own_cache(bench: Bench, name: str) -> AbstractContextManager[None]:
    """For one of several images computed after each other in one step.

    A lossy caching hook compares with what it saw last, which must not be another image.
    """
    if bench.spec.cache is None:
        return nullcontext()
    context: AbstractContextManager[None] = bench.pipeline.transformer.cache_context(name)
    return context


def count_tokens(tokenizer: Any, text: str) -> int:
    """Tokens of the whole text, those the tokenizer puts around it included."""
    return len(tokenizer(text, truncation=False, verbose=False).input_ids)
