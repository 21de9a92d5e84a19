"""Qwen-Image: a Qwen2.5-VL that reads the prompt inside a template, packed 5-D latents.

Texts have as many tokens as they have. Diffusers pads them to the longest of a call and masks
the rest, so that the pixels of an image depend (by rounding) on its neighbours' prompts. Here
every text is encoded and every image denoised by a call of its own, at its own length and without
a mask: bit for bit what diffusers makes of that image alone, whatever the batch. At the sizes
this model is made for, one image fills a device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from storage.contract.items import GroupSpec
from workers.engine.families.base import Bench, DenoiseInputs, Row, Tensor
from workers.engine.families.dit import (
    Transformer,
    call,
    count_tokens,
    forward_of,
    own_cache,
    pictured,
    placed,
    sampled,
    to_pixels,
)

if TYPE_CHECKING:
    from workers.engine.families.base import FamilyAdapter


class QwenImage(Transformer):
    """Text to image, image to image, inpainting.

    The guidance is `true_cfg_scale`, or `guidance_scale` where a group gives none: the model
    reads neither.
    """

    def needs_negatives(self, spec: GroupSpec) -> bool:
        """Above a scale of 1."""
        return _scale(spec) > 1

    def encode(
        self, bench: Bench, encoder: str, texts: Sequence[str], *, negative: bool
    ) -> list[Row]:
        """``prompt_embeds`` (tokens, width), as long as the text is."""
        rows: dict[str, Row] = {}
        for text in texts:
            if text not in rows:
                embeds, _ = bench.pipeline._get_qwen_prompt_embeds([text], bench.device)
                rows[text] = {"prompt_embeds": embeds[0, : self.tokens(bench.spec)].cpu()}
        return [rows[text] for text in texts]

    def latents_of(self, bench: Bench, pixels: Tensor, generator: Any) -> Tensor:
        """Shape (1, 16, height, width), standardised by channel."""
        vae = bench.pipeline.vae
        latents = sampled(vae.encode(pixels.unsqueeze(2)), generator)
        mean, inverse = _statistics(vae, latents)
        return ((latents - mean) * inverse)[:, :, 0]

    def denoise(
        self, bench: Bench, inputs: DenoiseInputs, on_step: Callable[[int], None]
    ) -> Tensor:
        """Packed: shape (n, height / 16 * width / 16, 64)."""
        arguments = pictured(bench, inputs) | _texts(bench, inputs.prompts, "")
        if inputs.negatives is not None:
            arguments |= _texts(bench, inputs.negatives, "negative_")
            arguments["true_cfg_scale"] = _scale(bench.spec)
        else:
            arguments["true_cfg_scale"] = 1.0
        if bench.pipeline.transformer.config.guidance_embeds:
            arguments["guidance_scale"] = bench.spec.guidance_scale
        with _one_by_one(bench):
            length = self.tokens(bench.spec)
            return call(bench, inputs, on_step, max_sequence_length=length, **arguments)

    def decode(self, bench: Bench, latents: Tensor) -> Tensor:
        """Unpack to one frame, undo the standardisation, decode."""
        pipeline, spec = bench.pipeline, bench.spec
        vae = pipeline.vae
        unpacked = pipeline._unpack_latents(
            latents.to(bench.device, vae.dtype), spec.height, spec.width, pipeline.vae_scale_factor
        )
        mean, inverse = _statistics(vae, unpacked)
        decoded = vae.decode(unpacked / inverse + mean, return_dict=False)[0]
        return to_pixels(decoded[:, :, 0])

    def count_tokens(self, bench: Bench, text: str) -> int:
        """Tokens the embeddings keep: those of the text, and of the template after it."""
        pipeline = bench.pipeline
        whole = pipeline.prompt_template_encode.format(text)
        dropped = int(pipeline.prompt_template_encode_start_idx)
        return count_tokens(pipeline.tokenizer, whole) - dropped


def _texts(bench: Bench, rows: Sequence[Row], prefix: str) -> dict[str, Tensor]:
    """The rows filled up to the longest with zeros, and the mask that says so."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    embeds = [row["prompt_embeds"] for row in rows]
    mask = [torch.ones(len(row), dtype=torch.long) for row in embeds]
    return {
        f"{prefix}prompt_embeds": placed(bench, pad_sequence(embeds, batch_first=True)),
        f"{prefix}prompt_embeds_mask": placed(bench, pad_sequence(mask, batch_first=True)),
    }


@contextmanager
def _one_by_one(bench: Bench) -> Iterator[None]:
    """Let the transformer compute each image of a batch by itself, without padding."""
    import torch

    transformer = bench.pipeline.transformer
    whole = transformer.forward
    sides: dict[int, tuple[str, list[int]]] = {}

    def forward(*, return_dict: bool = True, **batch: Any) -> Any:
        mask = batch.pop("encoder_hidden_states_mask", None)
        embeds = batch.pop("encoder_hidden_states")
        lengths = sides.get(embeds.data_ptr())
        if lengths is None:  # the same tensors come back at every step: one wait for the device
            counts = [embeds.shape[1]] * len(embeds) if mask is None else mask.sum(1).tolist()
            lengths = sides[embeds.data_ptr()] = (f"side {len(sides)}", counts)
        side, counts = lengths
        outputs = []
        for slot, count in enumerate(counts):
            with own_cache(bench, f"{side} slot {slot}"):
                outputs.append(
                    whole(
                        encoder_hidden_states=embeds[slot : slot + 1, :count],
                        encoder_hidden_states_mask=None,
                        return_dict=False,
                        **{name: _of_slot(value, slot) for name, value in batch.items()},
                    )[0]
                )
        return (torch.cat(outputs),)

    with forward_of(transformer, forward):
        yield


def _of_slot(value: Any, slot: int) -> Any:
    """The part of one argument that belongs to one image; settings belong to all."""
    import torch

    if isinstance(value, (list, torch.Tensor)):
        return value[slot : slot + 1]
    return value


def _statistics(vae: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    """The latents' mean and one over their standard deviation, per channel."""
    import torch

    shape = (1, vae.config.z_dim, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean).view(shape).to(like.device, like.dtype)
    std = torch.tensor(vae.config.latents_std).view(shape).to(like.device, like.dtype)
    return mean, 1.0 / std


def _scale(spec: GroupSpec) -> float:
    return spec.guidance_scale if spec.true_cfg_scale is None else spec.true_cfg_scale


if TYPE_CHECKING:
    _adapter: FamilyAdapter = QwenImage()
