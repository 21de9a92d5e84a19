"""Control pictures of the transformer families.

Their ControlNets look at latents. The pipelines encode the pictures in the middle of the denoising
call, where there is no VAE in the phases: the condition phase has encoded them, and a stand-in
hands out what it made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from storage.contract.errors import ModelUnusable
from workers.engine.families.base import Bench, DenoiseInputs, Tensor


@contextmanager
def standing_in(pipeline: Any, vae: Any) -> Iterator[None]:
    """Let the pipeline take `vae` for its VAE for a while."""
    own = pipeline.vae
    pipeline.vae = vae
    try:
        yield
    finally:
        pipeline.vae = own


class EncodedBefore:
    """Stands for the VAE: answers with latents that were made before, one batch after the other."""

    def __init__(self, bench: Bench, latents: Sequence[Tensor]) -> None:
        """`latents` have shape (n, channels, height, width), one tensor for each encoding."""
        self.config = bench.pipeline.vae.config
        self.dtype = bench.dtype
        self._left = list(latents)

    def encode(self, pictures: Tensor) -> Any:
        """The next latents; as often as the pictures, which guidance doubles."""
        import torch

        latents = self._left.pop(0)
        repeated = torch.cat([latents] * (len(pictures) // len(latents)))
        return SimpleNamespace(latent_dist=SimpleNamespace(sample=lambda _generator=None: repeated))


def control_options(bench: Bench, inputs: DenoiseInputs) -> dict[str, Any]:
    """The call's arguments for control pictures, which are blank: they were encoded before."""
    import torch

    nets, spec = bench.spec.controlnets, bench.spec
    if not nets:
        return {}
    _check(bench.pipeline.controlnet)
    blank = torch.zeros(len(inputs.conditions), 3, spec.height, spec.width)
    one = len(nets) == 1
    return {
        "control_image": blank if one else [blank] * len(nets),
        "controlnet_conditioning_scale": nets[0].scale if one else [net.scale for net in nets],
        "control_guidance_start": [net.start for net in nets],
        "control_guidance_end": [net.end for net in nets],
    }


def _check(controlnet: Any) -> None:
    for net in getattr(controlnet, "nets", [controlnet]):
        if getattr(net, "input_hint_block", None) is not None:
            raise ModelUnusable(
                "this ControlNet looks at pixels (input_hint_block); only those that look at"
                " latents are rendered with FLUX.1",
                hint="InstantX's and Shakker's are of that kind, XLabs' are not",
            )
