"""The loop everybody writes: prompts in, pictures out, with diffusers and nothing else.

python bare_loop.py PROMPTS.txt FOLDER STEPS BATCH
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

from storage.models.resolve import starter_folder


def main() -> None:
    """Render every line of the file."""
    prompts = Path(sys.argv[1]).read_text().splitlines()
    folder = Path(sys.argv[2])
    steps, size = int(sys.argv[3]), int(sys.argv[4])
    folder.mkdir(parents=True, exist_ok=True)
    pipeline = StableDiffusionPipeline.from_pretrained(starter_folder())
    pipeline.set_progress_bar_config(disable=True)
    for start in range(0, len(prompts), size):
        batch = prompts[start : start + size]
        generators = [torch.Generator("cpu").manual_seed(start + i) for i in range(len(batch))]
        images = pipeline(batch, num_inference_steps=steps, generator=generators).images
        for number, image in enumerate(images, start):
            image.save(folder / f"{number:06d}.png")


if __name__ == "__main__":
    main()
