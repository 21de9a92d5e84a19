"""Training the decoder alone a little longer, once the latents are settled.

The denoiser depends on the encoder only, so the decoder can still improve after it. It sees
latents with some extra noise, because what the denoiser hands it is never quite right; a decoder
that knows exact latents alone would turn small errors into visible ripples.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from workers.starter import checkpoints
from workers.starter.train_vae import learning_rate, picture_loss, training_pictures

SEED: Final = 37
FIRST_PICTURE: Final = 20_000_000
PEAK_RATE: Final = 5e-4
WARM_UP_STEPS: Final = 100


@dataclass(frozen=True, slots=True)
class PolishPlan:
    """How long to train the decoder, and how noisy its latents are at most.

    `most_noise` is a standard deviation; latents themselves have a deviation of 1.
    """

    steps: int = 4000
    batch: int = 16
    most_noise: float = 0.2


def polish_decoder(vae: AutoencoderKL, folder: Path, plan: PolishPlan) -> None:
    """Train the decoder of an autoencoder with normalized latents, in place."""
    device = checkpoints.pick_device()
    vae = vae.to(device)
    trained = torch.nn.ModuleList([vae.post_quant_conv, vae.decoder]).train()
    optimizer = torch.optim.AdamW(trained.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99))
    training = checkpoints.Training(folder / "polish.ckpt", trained, optimizer, decay=0.998)
    for step in checkpoints.steps_with_progress(training.resume(), plan.steps, "polish"):
        training.set_rate(learning_rate(step, plan.steps, PEAK_RATE, WARM_UP_STEPS))
        torch.manual_seed(SEED * 1_000_003 + step)
        pictures = training_pictures(FIRST_PICTURE + step, plan.batch).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            output = vae.decode(_noisy_latents(vae, pictures, plan.most_noise)).sample
        loss = _train_step(trained, optimizer, output.float(), pictures)
        training.average.update(trained, step)
        if (step + 1) % 50 == 0:
            print(f"polish loss {loss:.4f}", flush=True)
        training.keep(step + 1, plan.steps)
    training.average.copy_to(trained)
    vae.eval()


@torch.no_grad()
def _noisy_latents(vae: AutoencoderKL, pictures: Tensor, most_noise: float) -> Tensor:
    """Return the pictures' latents, each picture's with its own amount of noise."""
    latents = vae.encode(pictures).latent_dist.sample().float()
    amount = most_noise * torch.rand(len(latents), 1, 1, 1, device=latents.device)
    noisy: Tensor = latents + amount * torch.randn_like(latents)
    return noisy


def _train_step(
    trained: torch.nn.Module, optimizer: torch.optim.Optimizer, output: Tensor, pictures: Tensor
) -> float:
    """Do one step and return the loss."""
    loss = picture_loss(output, pictures)
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
    optimizer.step()
    return float(loss.item())
