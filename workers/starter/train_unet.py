"""Training the denoiser and the text encoder together, on latents of the finished autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from workers.starter import checkpoints
from workers.starter.captions import caption
from workers.starter.export import new_scheduler
from workers.starter.scenes import Scene, draw, sample_scene
from workers.starter.tokenizer import MAXIMUM_LENGTH
from workers.starter.train_vae import learning_rate

SEED: Final = 23
TEXT_WIDTH: Final = 128
PEAK_RATE: Final = 1e-3
WARM_UP_STEPS: Final = 200
EMPTY_CAPTION_SHARE: Final = 0.1
MOST_WEIGHT: Final = 5.0
AVERAGE_DECAY: Final = 0.999
ENCODE_BATCH: Final = 128


@dataclass(frozen=True, slots=True)
class UnetPlan:
    """How long to train the denoiser, and on how many different pictures."""

    steps: int = 10000
    batch: int = 64
    pictures: int = 60000


@dataclass(frozen=True, slots=True)
class LatentSet:
    """Scenes with the mean and deviation of their latents, both (n, 4, 8, 8) in half precision."""

    scenes: list[Scene]
    mean: Tensor
    deviation: Tensor


def new_unet() -> UNet2DConditionModel:
    """Return an untrained denoiser for 8x8x4 latents."""
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(64, 96),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def new_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Return an untrained text encoder of two layers for the tokenizer's words."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAXIMUM_LENGTH,
        projection_dim=TEXT_WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def encode_pictures(vae: AutoencoderKL, count: int, file: Path) -> LatentSet:
    """Draw the training scenes and encode them once; the latents are kept in the file."""
    scenes = [sample_scene(np.random.default_rng([SEED, index])) for index in range(count)]
    stored = checkpoints.load(file)
    if stored is None or len(stored["mean"]) != count:
        means, deviations = [], []
        for start in range(0, count, ENCODE_BATCH):
            mean, deviation = _encode(vae, scenes[start : start + ENCODE_BATCH])
            means.append(mean)
            deviations.append(deviation)
            if start // ENCODE_BATCH % 50 == 0:
                print(f"encoded {start} of {count} pictures", flush=True)
        stored = {"mean": torch.cat(means), "deviation": torch.cat(deviations)}
        checkpoints.save(file, stored)
    return LatentSet(scenes, stored["mean"], stored["deviation"])


@torch.no_grad()
def _encode(vae: AutoencoderKL, scenes: list[Scene]) -> tuple[Tensor, Tensor]:
    pixels = torch.from_numpy(np.stack([draw(scene) for scene in scenes]))
    pictures = pixels.permute(0, 3, 1, 2).float().to(vae.device) / 127.5 - 1.0
    posterior = vae.encode(pictures).latent_dist
    return posterior.mean.half().cpu(), posterior.std.half().cpu()


class Denoising:
    """The trainable parts, their average and their optimizer, and one training step."""

    def __init__(self, tokenizer: CLIPTokenizer, plan: UnetPlan, folder: Path) -> None:
        torch.manual_seed(SEED)
        self.device = checkpoints.pick_device()
        self.tokenizer = tokenizer
        self.plan = plan
        self.unet = new_unet()
        self.text_encoder = new_text_encoder(tokenizer)
        self.parts = torch.nn.ModuleList([self.unet, self.text_encoder]).to(self.device).train()
        if self.device.type == "cpu":
            # The fused attention's backward pass is slow on CPUs in bfloat16: a third of the step.
            self.unet.set_attn_processor(AttnProcessor())
            self.text_encoder.set_attn_implementation("eager")
        optimizer = torch.optim.AdamW(
            self.parts.parameters(), lr=PEAK_RATE, betas=(0.9, 0.99), weight_decay=0.01
        )
        self.training = checkpoints.Training(
            folder / "unet.ckpt", self.parts, optimizer, decay=AVERAGE_DECAY
        )
        self.signal = new_scheduler().alphas_cumprod.to(self.device)
        """Share of signal in the noised latents at each of 1,000 timesteps, shape (1000,)."""

    def begin_with(self, model: Path) -> None:
        """Take the weights of a finished model as the first ones."""
        wide = {"torch_dtype": torch.float32}
        unet = UNet2DConditionModel.from_pretrained(model, subfolder="unet", **wide)
        text_encoder = CLIPTextModel.from_pretrained(model, subfolder="text_encoder")
        self.unet.load_state_dict(unet.state_dict())
        self.text_encoder.load_state_dict(text_encoder.float().state_dict())
        self.training.average = checkpoints.Average(self.parts, AVERAGE_DECAY)

    def tokens(self, texts: list[str]) -> Tensor:
        """Return token ids, shape (n, 77), padded as the pipeline pads them."""
        encoded = self.tokenizer(
            texts,
            padding="max_length",
            max_length=MAXIMUM_LENGTH,
            truncation=True,
            return_tensors="pt",
        )
        ids: Tensor = encoded.input_ids
        return ids.to(self.device)

    def loss(self, latents: Tensor, texts: list[str]) -> Tensor:
        """Return the velocity loss at random timesteps, nearly clean ones weighted down."""
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, len(self.signal), (len(latents),), device=self.device)
        signal = self.signal[timesteps][:, None, None, None]
        noised = signal.sqrt() * latents + (1 - signal).sqrt() * noise
        velocity = signal.sqrt() * noise - (1 - signal).sqrt() * latents
        with torch.autocast(self.device.type, torch.bfloat16):
            states = self.text_encoder(self.tokens(texts))[0]
            output = self.unet(noised, timesteps, states).sample.float()
        ratio = signal / (1 - signal)
        # Truncated at the clean end only: the noisy end is where the caption decides the most.
        weight = (ratio + 1).clamp(max=MOST_WEIGHT) / (ratio + 1)
        error: Tensor = (weight * (output - velocity) ** 2).mean()
        return error

    def step(self, step: int, data: LatentSet) -> float:
        """Do one training step on random pictures and return its loss."""
        rng = np.random.default_rng([SEED, 1, step])
        torch.manual_seed(SEED * 1_000_003 + step)
        chosen = rng.integers(len(data.scenes), size=self.plan.batch)
        mean, deviation = data.mean[chosen].float(), data.deviation[chosen].float()
        latents = (mean + deviation * torch.randn_like(mean)).to(self.device)
        texts = [
            "" if rng.random() < EMPTY_CAPTION_SHARE else caption(data.scenes[index], rng)
            for index in chosen
        ]
        self.training.set_rate(learning_rate(step, self.plan.steps, PEAK_RATE, WARM_UP_STEPS))
        loss = self.loss(latents, texts)
        self.training.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.parts.parameters(), 1.0)
        self.training.optimizer.step()
        self.training.average.update(self.parts, step)
        return loss.item()

    def finished(self) -> tuple[UNet2DConditionModel, CLIPTextModel]:
        """Return copies of both parts with averaged weights."""
        unet, text_encoder = new_unet(), new_text_encoder(self.tokenizer)
        self.training.average.copy_to(torch.nn.ModuleList([unet, text_encoder]).to(self.device))
        return unet.eval(), text_encoder.eval()


def train_unet(denoising: Denoising, data: LatentSet) -> None:
    """Train until the plan's last step, or continue from the checkpoint."""
    first, losses = denoising.training.resume(), []
    for step in checkpoints.steps_with_progress(first, denoising.plan.steps, "unet"):
        losses.append(denoising.step(step, data))
        if (step + 1) % 50 == 0:
            print(f"unet loss {np.mean(losses[-50:]):.4f}", flush=True)
        denoising.training.keep(step + 1, denoising.plan.steps)
