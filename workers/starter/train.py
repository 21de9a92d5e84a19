"""Training the starter model from nothing: `python -m workers.starter.train --out DIR`.

Stopped at any time, the same command goes on from its last checkpoint. With `--begin-with MODEL`
the parts of a finished model are trained further instead of new ones.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from workers.starter.export import export_model
from workers.starter.polish import PolishPlan, polish_decoder
from workers.starter.tokenizer import build_tokenizer
from workers.starter.train_unet import Denoising, UnetPlan, encode_pictures, train_unet
from workers.starter.train_vae import VaePlan, normalize_latents, train_vae


@dataclass(frozen=True, slots=True)
class Plan:
    """The three trainings, in their order."""

    vae: VaePlan
    unet: UnetPlan
    polish: PolishPlan


def train(out: Path, work: Path, plan: Plan, begin_with: Path | None = None) -> None:
    """Train all parts and write the model folder; `work` keeps what is needed to continue."""
    vae = _autoencoder(work, plan.vae, begin_with)
    data = encode_pictures(vae, plan.unet.pictures, work / "latents.ckpt")
    tokenizer = build_tokenizer()
    denoising = Denoising(tokenizer, plan.unet, work)
    if begin_with is not None:
        denoising.begin_with(begin_with)
    train_unet(denoising, data)
    polish_decoder(vae, work, plan.polish)
    unet, text_encoder = denoising.finished()
    export_model(out, vae, unet, text_encoder, tokenizer)
    print(f"model written to {out}", flush=True)


def _autoencoder(work: Path, plan: VaePlan, begin_with: Path | None) -> AutoencoderKL:
    """Return an autoencoder with normalized latents: the given model's, or a newly trained one."""
    if begin_with is not None:
        return AutoencoderKL.from_pretrained(begin_with, subfolder="vae", torch_dtype=torch.float32)
    vae = train_vae(work, plan)
    normalize_latents(vae)
    return vae


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="model folder to write")
    parser.add_argument("--work", type=Path, help="checkpoints (default: OUT with .work added)")
    parser.add_argument("--begin-with", type=Path, help="model folder to train further")
    parser.add_argument("--steps", type=int, default=UnetPlan().steps, help="denoiser steps")
    parser.add_argument("--vae-steps", type=int, default=VaePlan().steps)
    parser.add_argument("--polish-steps", type=int, default=PolishPlan().steps)
    parser.add_argument("--pictures", type=int, default=UnetPlan().pictures)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: all)")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    out: Path = options.out
    work: Path = options.work or out.with_name(out.name + ".work")
    plan = Plan(
        vae=VaePlan(steps=options.vae_steps),
        unet=UnetPlan(steps=options.steps, pictures=options.pictures),
        polish=PolishPlan(steps=options.polish_steps),
    )
    train(out, work, plan, options.begin_with)


if __name__ == "__main__":
    main()
