"""What the CLIP and UNet families share.

Every kind of task is diffusers' own pipeline with given embeddings, recorded pictures and latent
output; a family says what its text encoders make of a text, and what its pipelines want beside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from storage.contract.items import IMAGE_TO_IMAGE, INPAINT, GroupSpec
from storage.contract.samplers import find_sampler
from workers.engine import prompts
from workers.engine.families import pictures
from workers.engine.families.base import Bench, DenoiseInputs, Inputs, Phase, Row, Tensor
from workers.engine.ip_adapters import PicturePrompts, look


class Classic:
    """The phases of a family with CLIP text encoders, a UNet and an AutoencoderKL."""

    encoders: tuple[str, ...] = ("text_encoder",)
    tokenizer = "tokenizer"  #: whose count of tokens is told
    upcasts = False  #: whether pictures are encoded in float32 where the VAE's config wants that

    def __init__(self, *, sees_masked: bool = False) -> None:
        """`sees_masked`: an inpainting UNet of 9 channels, which is given the masked picture."""
        self._sees_masked = sees_masked

    def components(self, spec: GroupSpec, phase: Phase) -> tuple[str, ...]:
        """Text encoders; the VAE and what else looks at pictures; the UNet; the VAE."""
        if phase is Phase.ENCODE:
            return self.encoders
        if phase is Phase.CONDITION:
            looks = ("image_encoder",) if spec.ip_adapter else ()
            return (*self.condition_components(spec), *looks)
        if phase is Phase.DENOISE:
            nets = (f"controlnet.{number}" for number in range(len(spec.controlnets)))
            return ("unet", *nets)
        return ("vae",)

    def condition_components(self, spec: GroupSpec) -> tuple[str, ...]:
        """Components that look at the picture to start from."""
        return ("vae",) if self.recorded_names(spec) else ()

    def needs_negatives(self, spec: GroupSpec) -> bool:
        """With classifier-free guidance, which diffusers does above 1."""
        return spec.guidance_scale > 1

    def encode(
        self, bench: Bench, encoder: str, texts: Sequence[str], *, negative: bool
    ) -> list[Row]:
        """Of each text what `encoder` makes of it."""
        raise NotImplementedError

    def join(self, spec: GroupSpec, parts: Mapping[str, Row]) -> Row:
        """There is one encoder."""
        return parts[self.encoders[0]]

    def embeddings(self, bench: Bench, inputs: DenoiseInputs) -> dict[str, Any]:
        """The texts as parameters of the pipeline call."""
        given = {"prompt_embeds": stacked(inputs.prompts, "prompt_embeds", bench)}
        if inputs.negatives is not None:
            given["negative_prompt_embeds"] = stacked(inputs.negatives, "prompt_embeds", bench)
        return given

    def recorded_names(self, spec: GroupSpec) -> tuple[str, ...]:
        """Pictures that the pipeline has the VAE encode, in its order."""
        if spec.kind == IMAGE_TO_IMAGE:
            return ("image_moments",)
        if spec.kind != INPAINT:
            return ()
        # From pure noise, a UNet that sees the masked picture needs no other.
        alone = self._sees_masked and spec.strength == 1
        return ("masked_moments",) if alone else ("image_moments", "masked_moments")

    def condition(
        self, bench: Bench, inputs: Sequence[Inputs], generators: Sequence[Any]
    ) -> list[Row]:
        """Moments of ``image``, and the mask, control pictures and looks as they are.

        Draws nothing: the pipeline draws while it denoises, in its own order. So what is made
        here depends on the pictures alone.
        """
        return [self._conditioned(bench, slot) for slot in inputs]

    def _conditioned(self, bench: Bench, slot: Inputs) -> Row:
        row: dict[str, Tensor] = {}
        names = self.recorded_names(bench.spec)
        if "image_moments" in names:
            prepared = pictures.prepared(bench, slot.image)
            row["image_moments"] = pictures.moments(bench, prepared, upcast=self.upcasts)
        if "masked_moments" in names:
            prepared = pictures.masked(bench, slot.image, slot.mask_image)
            row["masked_moments"] = pictures.moments(bench, prepared, upcast=self.upcasts)
            row["mask"] = pictures.kept(slot.mask_image)
        for number, control in enumerate(slot.control_images):
            row[f"control_{number}"] = pictures.kept(control)
        return {**row, **look(bench, slot.ip_adapter_image)}

    def denoise(
        self, bench: Bench, inputs: DenoiseInputs, on_step: Callable[[int], None]
    ) -> Tensor:
        """Shape (n, 4, height / 8, width / 8)."""
        options = {
            **self.embeddings(bench, inputs),
            **self.picture_options(bench, inputs.conditions),
            **_control_options(bench, inputs.conditions),
        }
        vae = self.recorded(bench, inputs.conditions)
        with sampling(bench, vae) as pipeline, _looking(bench, inputs, options):
            latents = pipeline(
                **options,
                **self.stepping(on_step),
                num_inference_steps=bench.spec.num_inference_steps,
                guidance_scale=bench.spec.guidance_scale,
                generator=list(inputs.generators),
                output_type="latent",
            ).images
        if vae is not None and vae.left:
            raise RuntimeError(f"the pipeline left {vae.left} encoded pictures unused")
        return latents

    def recorded(self, bench: Bench, rows: Sequence[Row]) -> pictures.RecordedVae | None:
        """What stands for the VAE, where the pipeline wants one to encode."""
        names = self.recorded_names(bench.spec)
        return pictures.recorded(bench, rows, names) if names else None

    def picture_options(self, bench: Bench, rows: Sequence[Row]) -> dict[str, Any]:
        """Size, pictures to start from and masks as parameters of the pipeline call.

        The pictures are blanks: the `RecordedVae` knows what was encoded.
        """
        spec = bench.spec
        options: dict[str, Any] = {}
        if spec.kind != IMAGE_TO_IMAGE:
            options |= {"width": spec.width, "height": spec.height}
        if spec.kind in {IMAGE_TO_IMAGE, INPAINT}:
            options["image"] = blanks(len(rows), spec)
            if spec.strength is not None:
                options["strength"] = spec.strength
        if spec.kind == INPAINT:
            options["mask_image"] = pictures.restored(rows, "mask")
        return options

    def stepping(self, on_step: Callable[[int], None]) -> dict[str, Any]:
        """How the pipeline is told to call `on_step`."""
        return {
            "callback_on_step_end": stepper(on_step),
            "callback_on_step_end_tensor_inputs": [],
        }

    def decode(self, bench: Bench, latents: Tensor) -> Tensor:
        """Shape (n, 3, height, width)."""
        return decode_kl(bench.pipeline.vae, latents)

    def count_tokens(self, bench: Bench, text: str) -> int:
        """What the tokenizer makes of the whole text."""
        tokenizer = getattr(bench.pipeline, self.tokenizer)
        if prompts.is_chunked(bench.spec):
            return prompts.count_tokens(tokenizer, text, bench.spec)
        return count_tokens(tokenizer, text)

    def token_limit(self, bench: Bench) -> int:
        """What the tokenizer cuts at, in each chunk."""
        return prompts.token_limit(getattr(bench.pipeline, self.tokenizer), bench.spec)


def make_scheduler(name: str, own: Any) -> Any:
    """The sampler of that name with the model's own settings, save those that make it."""
    import diffusers

    sampler = find_sampler(name)
    kind = getattr(diffusers, sampler.scheduler_class)
    return kind.from_config(own.config, **dict(sampler.overrides))


@contextmanager
def sampling(bench: Bench, vae: Any = None) -> Iterator[Any]:
    """The bench's pipeline with the group's sampler, and with `vae` if one is given.

    A fresh sampler per call: they keep state, and a broken-off call leaves it behind.
    """
    pipeline = bench.pipeline
    own_scheduler, own_vae = pipeline.scheduler, pipeline.vae
    pipeline.scheduler = make_scheduler(bench.spec.scheduler, own_scheduler)
    if vae is not None:
        pipeline.vae = vae
    try:
        yield pipeline
    finally:
        pipeline.scheduler, pipeline.vae = own_scheduler, own_vae


@contextmanager
def _looking(bench: Bench, inputs: DenoiseInputs, options: dict[str, Any]) -> Iterator[None]:
    """Each slot's own IP-Adapter picture; diffusers gives all of a batch the same."""
    if bench.spec.ip_adapter is None:
        yield
        return
    prompts = PicturePrompts(bench, inputs.conditions, guided=inputs.negatives is not None)
    options["ip_adapter_image_embeds"] = prompts.embeddings
    with prompts.installed():
        yield


def _control_options(bench: Bench, rows: Sequence[Row]) -> dict[str, Any]:
    """Control pictures, shape (n, 3, height, width) in 0..1 for each net, and their measures."""
    import torch

    nets = bench.spec.controlnets
    if not nets:
        return {}
    images = [
        torch.stack([row[f"control_{n}"] for row in rows]).permute(0, 3, 1, 2).float() / 255
        for n in range(len(nets))
    ]
    # Text to image calls its only picture `image`, as the others do the one they start from.
    name = "image" if bench.spec.kind not in {IMAGE_TO_IMAGE, INPAINT} else "control_image"
    one = len(nets) == 1
    return {
        name: images[0] if one else images,
        "controlnet_conditioning_scale": nets[0].scale if one else [net.scale for net in nets],
        "control_guidance_start": [net.start for net in nets],
        "control_guidance_end": [net.end for net in nets],
    }


def blanks(count: int, spec: GroupSpec) -> Tensor:
    """Pictures of zeros, shape (count, 3, height, width)."""
    import torch

    return torch.zeros(count, 3, spec.height, spec.width)


def stepper(on_step: Callable[[int], None]) -> Callable[..., dict[str, Any]]:
    """`on_step` as a pipeline's ``callback_on_step_end``."""

    def after_step(_pipeline: Any, step: int, _timestep: Any, kwargs: dict[str, Any]) -> Any:
        on_step(step + 1)
        return kwargs

    return after_step


def stacked(rows: Sequence[Row], name: str, bench: Bench) -> Tensor:
    """One value of each row as a batch on the bench's device, shape (n, ...)."""
    import torch

    return torch.stack([row[name] for row in rows]).to(bench.device, non_blocking=True)


def tokenized(tokenizer: Any, texts: Sequence[str]) -> Any:
    """Tokens of each text, cut and padded to the tokenizer's length."""
    return tokenizer(
        list(texts),
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )


def count_tokens(tokenizer: Any, text: str) -> int:
    """Tokens of the whole text, start and end included."""
    return len(tokenizer(text, truncation=False, verbose=False).input_ids)


def decode_kl(vae: Any, latents: Tensor) -> Tensor:
    """Undo the latents' scaling, decode, shift from -1..1 to 0..1.

    As SD's pipeline (pipeline_stable_diffusion.py: 1084-1102 in 0.42.1), in the VAE's own dtype.
    """
    scaled = latents.to(vae.dtype) / vae.config.scaling_factor
    return vae.decode(scaled, return_dict=False)[0].float() / 2 + 0.5
