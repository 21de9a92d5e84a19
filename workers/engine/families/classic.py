"""What the CLIP and UNet families share: samplers, stacking, CLIP states, decoding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from storage.contract.samplers import find_sampler
from workers.engine.families.base import Bench, Row, Tensor


def make_scheduler(name: str, own: Any) -> Any:
    """The sampler of that name with the model's own settings, save those that make it."""
    import diffusers

    sampler = find_sampler(name)
    kind = getattr(diffusers, sampler.scheduler_class)
    return kind.from_config(own.config, **dict(sampler.overrides))


@contextmanager
def sampling(bench: Bench) -> Iterator[Any]:
    """The bench's pipeline with the group's sampler.

    A fresh one per call: samplers keep state, and a broken-off call leaves it behind.
    """
    pipeline = bench.pipeline
    own = pipeline.scheduler
    pipeline.scheduler = make_scheduler(bench.spec.scheduler, own)
    try:
        yield pipeline
    finally:
        pipeline.scheduler = own


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
