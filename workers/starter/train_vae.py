"""Training the autoencoder: 64x64 pictures to 8x8x4 latents and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from workers.starter import checkpoints
from workers.starter.scenes import PICTURE_SIDE, draw, sample_scene

SEED: Final = 11
EDGE_WEIGHT: Final = 4.0
SLOPE_WEIGHT: Final = 0.5
SQUARE_WEIGHT: Final = 3.0
PEAK_RATE: Final = 8e-4
WARM_UP_STEPS: Final = 100


@dataclass(frozen=True, slots=True)
class VaePlan:
    """How long to train the autoencoder, and how strongly to smooth its latents."""

    steps: int = 5000
    batch: int = 16
    first_kl_weight: float = 1e-5
    last_kl_weight: float = 2e-3


def new_vae() -> AutoencoderKL:
    """Return an untrained autoencoder; narrow at full size, where every channel is dear."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=4,
        sample_size=PICTURE_SIDE,
        scaling_factor=1.0,
    )


def training_pictures(seed: int, count: int) -> Tensor:
    """Return random training pictures, shape (count, 3, 64, 64), from -1 to 1."""
    rng = np.random.default_rng([SEED, seed])
    pixels = np.stack([draw(sample_scene(rng)) for _ in range(count)])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def _slopes(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Return the differences to the right and to the lower neighbour."""
    across = pictures[..., :, 1:] - pictures[..., :, :-1]
    return across, pictures[..., 1:, :] - pictures[..., :-1, :]


def picture_loss(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute error with edges weighted up, plus the squared error.

    Flat areas fill most of a picture and are easy; without the weight and the slope term the
    autoencoder is content with blurred outlines. The absolute error alone would settle on the
    commonest colour where it is unsure and stay there; the squared error tells colours apart.
    """
    across, down = _slopes(target)
    edge = torch.zeros_like(target[:, :1])
    edge[..., :, 1:] += across.abs().amax(1, keepdim=True)
    edge[..., :, :-1] += across.abs().amax(1, keepdim=True)
    edge[..., 1:, :] += down.abs().amax(1, keepdim=True)
    edge[..., :-1, :] += down.abs().amax(1, keepdim=True)
    weight = 1.0 + EDGE_WEIGHT * edge.clamp(max=1.0)
    error = output - target
    loss = (weight * error.abs()).mean() + SQUARE_WEIGHT * (error**2).mean()
    for mine, wanted in zip(_slopes(output), _slopes(target), strict=True):
        loss = loss + SLOPE_WEIGHT * (mine - wanted).abs().mean()
    return loss


def learning_rate(step: int, total: int, peak: float, warm_up: int) -> float:
    """Return a rate that rises over the warm-up and falls along a cosine to a hundredth."""
    if step < warm_up:
        return peak * (step + 1) / warm_up
    done = (step - warm_up) / max(1, total - warm_up)
    return peak * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done))))


def kl_weight(step: int, plan: VaePlan) -> float:
    """Return the weight that pulls latents to a standard normal, rising over the training.

    Early on it would silence latent channels before they carry anything; late it makes the
    decoder forgiving of small errors in the latents.
    """
    growth = plan.last_kl_weight / plan.first_kl_weight
    return float(plan.first_kl_weight * growth ** (step / plan.steps))


def train_vae(folder: Path, plan: VaePlan) -> AutoencoderKL:
    """Train the autoencoder, or continue from the folder's checkpoint, and return it."""
    device = checkpoints.pick_device()
    torch.manual_seed(SEED)
    vae = new_vae().to(device).train()
    optimizer = torch.optim.AdamW(vae.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99))
    training = checkpoints.Training(folder / "vae.ckpt", vae, optimizer, decay=0.998)
    for step in checkpoints.steps_with_progress(training.resume(), plan.steps, "vae"):
        training.set_rate(learning_rate(step, plan.steps, PEAK_RATE, WARM_UP_STEPS))
        pictures = training_pictures(step, plan.batch).to(device)
        report = _train_step(vae, optimizer, pictures, kl_weight(step, plan))
        training.average.update(vae, step)
        if (step + 1) % 50 == 0:
            print(report, flush=True)
        training.keep(step + 1, plan.steps)
    training.average.copy_to(vae)
    return vae.eval()


def _train_step(
    vae: AutoencoderKL, optimizer: torch.optim.Optimizer, pictures: Tensor, weight: float
) -> str:
    """Do one step and return a line on how it went."""
    with torch.autocast(pictures.device.type, torch.bfloat16):
        posterior = vae.encode(pictures).latent_dist
        output = vae.decode(posterior.sample()).sample.float()
    mean, log_variance = posterior.mean.float(), posterior.logvar.float()
    divergence = 0.5 * (mean**2 + log_variance.exp() - 1.0 - log_variance).mean()
    loss = picture_loss(output, pictures) + weight * divergence
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
    optimizer.step()
    error = (output.detach() - pictures).abs().mean().item()
    spread = mean.detach().std().item()
    noise = (0.5 * log_variance.detach()).exp().mean().item()
    return (
        f"vae loss {loss.item():.4f} error {error:.4f} kl {divergence.item():.3f} "
        f"latent spread {spread:.2f} noise {noise:.2f}"
    )


def latent_statistics(vae: AutoencoderKL, count: int = 2048) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each latent channel, shapes (4,)."""
    device = next(vae.parameters()).device
    batches = []
    with torch.no_grad():
        for start in range(0, count, 64):
            pictures = training_pictures(10_000_000 + start, 64).to(device)
            batches.append(vae.encode(pictures).latent_dist.sample())
    latents = torch.cat(batches)
    return latents.mean((0, 2, 3)), latents.std((0, 2, 3))


def normalize_latents(vae: AutoencoderKL) -> None:
    """Change the autoencoder in place so that its latents have mean 0 and deviation 1.

    The scaling goes into the 1x1 convolutions on both sides of the latents, because the plain
    pipeline knows one common scaling factor only, and no shift.
    """
    mean, spread = latent_statistics(vae)
    inner, outer = vae.quant_conv, vae.post_quant_conv
    with torch.no_grad():
        inner.weight[:4] /= spread[:, None, None, None]
        inner.bias[:4] = (inner.bias[:4] - mean) / spread
        inner.bias[4:] -= 2.0 * spread.log()
        outer.bias += outer.weight[:, :, 0, 0] @ mean
        outer.weight *= spread[None, :, None, None]
