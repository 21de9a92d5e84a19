"""Stable Diffusion 1.x and 2.x: one CLIP text encoder, a UNet, an AutoencoderKL.

Beside the plain models: those for inpainting, for depth and for few steps (LCM).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from storage.contract.items import GroupSpec
from workers.engine import prompts
from workers.engine.families.base import Bench, Inputs, Row, Tensor
from workers.engine.families.classic import Classic, blanks, stacked, tokenized

if TYPE_CHECKING:
    from workers.engine.families.base import FamilyAdapter


class StableDiffusion(Classic):
    """Text to image, image to image and inpainting."""

    def encode(
        self, bench: Bench, encoder: str, texts: Sequence[str], *, negative: bool
    ) -> list[Row]:
        """``prompt_embeds`` of shape (77 for each chunk, width of the text encoder).

        Negative prompts are read to the encoder's last layer, as diffusers does.
        """
        pipeline, spec = bench.pipeline, bench.spec
        clip_skip = None if negative else spec.clip_skip
        if not prompts.is_chunked(spec):
            states = _states(bench, texts, clip_skip)
            return [{"prompt_embeds": row} for row in states.cpu()]
        read = prompts.chunked_states(
            pipeline.tokenizer,
            pipeline.text_encoder,
            texts,
            spec,
            lambda tokens, mask: _hidden(pipeline.text_encoder, tokens, mask, clip_skip),
        )
        return [{"prompt_embeds": row.cpu()} for row in read]


class DepthToImage(StableDiffusion):
    """Keeps the depth of a picture: the UNet is given a map of it."""

    def recorded_names(self, spec: GroupSpec) -> tuple[str, ...]:
        """The picture it starts from."""
        return ("image_moments",)

    def condition_components(self, spec: GroupSpec) -> tuple[str, ...]:
        """The VAE, and what sees depth."""
        return ("vae", "depth_estimator")

    def _conditioned(self, bench: Bench, slot: Inputs) -> Row:
        return {**super()._conditioned(bench, slot), "depth_map": _depth(bench, slot.image)}

    def picture_options(self, bench: Bench, rows: Sequence[Row]) -> dict[str, Any]:
        """The depth maps beside the pictures."""
        options: dict[str, Any] = {
            "image": blanks(len(rows), bench.spec),
            "depth_map": stacked(rows, "depth_map", bench),
        }
        if bench.spec.strength is not None:
            options["strength"] = bench.spec.strength
        return options


class LatentConsistency(StableDiffusion):
    """Few steps; the guidance scale is an input of the UNet, so that no negative is computed."""

    def needs_negatives(self, spec: GroupSpec) -> bool:
        """Never."""
        return False


def _states(bench: Bench, texts: Sequence[str], clip_skip: int | None) -> Tensor:
    """Shape (n, 77, width), as `encode_prompt` gives them.

    diffusers 0.42 looks for the last norm where transformers 5 no longer has it, so with
    ``clip_skip`` its own method fails.
    """
    encoder = bench.pipeline.text_encoder
    tokens = tokenized(bench.pipeline.tokenizer, texts)
    masked = getattr(encoder.config, "use_attention_mask", False)
    mask = tokens.attention_mask.to(bench.device) if masked else None
    return _hidden(encoder, tokens.input_ids.to(bench.device), mask, clip_skip)


def _hidden(encoder: Any, tokens: Tensor, mask: Tensor | None, clip_skip: int | None) -> Tensor:
    """Shape (n, 77, width)."""
    outputs = encoder(tokens, attention_mask=mask, output_hidden_states=clip_skip is not None)
    if clip_skip is None:
        return outputs[0]
    inner = getattr(encoder, "text_model", encoder)
    return inner.final_layer_norm(outputs.hidden_states[-(clip_skip + 1)])


def _depth(bench: Bench, picture: Any) -> Tensor:
    """The estimated depth, shape (h, w) as the estimator gives it; one picture at a time.

    In half precision under autocast: the estimator's batch norms are not made for it
    (pipeline_stable_diffusion_depth2img.py: 577-587 in 0.42.1).
    """
    import torch

    pipeline = bench.pipeline
    values = pipeline.feature_extractor(images=[picture], return_tensors="pt").pixel_values
    device = torch.device(bench.device)
    half = bench.dtype != torch.float32
    with torch.autocast(device.type, dtype=bench.dtype if half else None, enabled=half):
        seen = pipeline.depth_estimator(values.to(device, bench.dtype)).predicted_depth
    return seen[0].cpu()


if TYPE_CHECKING:
    _adapters: list[FamilyAdapter] = [StableDiffusion(), DepthToImage(), LatentConsistency()]
