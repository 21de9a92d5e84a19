"""Input pictures of the CLIP and UNet families, on their way through the phases.

The condition phase has the VAE and no noise: it computes what a picture is encoded to (the mean
and spread of its latents), which no seed decides. The denoising call then meets `RecordedVae`
in place of the VAE: it answers with what was recorded, and the pipeline itself draws from it, in
its own order. So the draws of an ordinary call need not be known here, nor repeated: for inpainting
the masked picture's comes after the noise, which no phase before the noise could draw.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from workers.engine.families.base import Bench, Picture, Row, Tensor


class RecordedVae:
    """Stands for the VAE while the pipeline denoises: encodes what was encoded before."""

    def __init__(self, config: Any, dtype: Any, recorded: Iterable[Tensor]) -> None:
        """`recorded` are moments of shape (1, 2 x channels, h, w) in the order of the call."""
        self.config = config
        self.dtype = dtype
        self._recorded = deque(recorded)

    def encode(self, _picture: Tensor) -> Any:
        """The next recorded distribution."""
        from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
        from diffusers.models.modeling_outputs import AutoencoderKLOutput

        return AutoencoderKLOutput(
            latent_dist=DiagonalGaussianDistribution(self._recorded.popleft())
        )

    def to(self, *_: Any, **__: Any) -> RecordedVae:
        """SDXL's pipelines move their VAE between precisions; what is recorded stays."""
        return self

    @property
    def left(self) -> int:
        """How many recorded pictures the pipeline did not ask for."""
        return len(self._recorded)


def moments(bench: Bench, picture: Tensor, *, upcast: bool = False) -> Tensor:
    """What the VAE makes of a picture of shape (1, 3, h, w) in -1..1; on the host.

    Shape (2 x channels, h / 8, w / 8): means, then logarithms of variances. With `upcast`, in
    float32 where the VAE's config wants that, as SDXL's pipelines do it.
    """
    import torch

    vae = bench.pipeline.vae
    own = vae.dtype
    picture = picture.to(bench.device, bench.dtype)
    if not (upcast and vae.config.force_upcast) or own == torch.float32:
        return vae.encode(picture.to(own)).latent_dist.parameters[0].cpu()
    vae.to(dtype=torch.float32)
    try:
        return vae.encode(picture.float()).latent_dist.parameters[0].cpu()
    finally:
        vae.to(dtype=own)


def prepared(bench: Bench, picture: Picture) -> Tensor:
    """A picture as the pipeline prepares it: shape (1, 3, height, width), -1..1."""
    return bench.pipeline.image_processor.preprocess(picture)


def masked(bench: Bench, picture: Picture, mask: Picture) -> Tensor:
    """A picture with what is to be painted anew blanked, as the pipeline does it."""
    blank = bench.pipeline.mask_processor.preprocess(mask)
    return prepared(bench, picture) * (blank < 0.5)


def kept(picture: Picture) -> Tensor:
    """A picture's bytes as a tensor, shape (height, width, 3), masks (height, width)."""
    import numpy as np
    import torch

    return torch.from_numpy(np.array(picture, dtype=np.uint8))


def restored(rows: Sequence[Row], name: str) -> list[Picture]:
    """The pictures that `kept` kept."""
    from PIL import Image

    return [Image.fromarray(row[name].numpy()) for row in rows]


def recorded(bench: Bench, rows: Sequence[Row], names: Sequence[str]) -> RecordedVae:
    """All slots' moments of each name, one name after the other."""
    found = [_batch_of_one(row[name].to(bench.device)) for name in names for row in rows]
    dtype = found[0].dtype if found else bench.dtype
    return RecordedVae(bench.pipeline.vae.config, dtype, found)


def _batch_of_one(row: Tensor) -> Tensor:
    """Shape (1, ...) in the layout the VAE gave it.

    Indexing with None would leave a stride by which torch takes channels-last for plain; then the
    UNet computes by other kernels than in an ordinary call, and pixels differ by one level.
    """
    import torch

    layout = torch.channels_last if row.stride(0) == 1 else torch.contiguous_format
    batch = torch.empty((1, *row.shape), dtype=row.dtype, device=row.device, memory_format=layout)
    return batch.copy_(row[None])
