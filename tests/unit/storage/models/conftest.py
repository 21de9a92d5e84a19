"""A model's folder that is small enough to be written for each test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

CONFIGS: dict[str, dict[str, Any]] = {
    "model_index.json": {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.42.0",
        "scheduler": ["diffusers", "DDIMScheduler"],
        "safety_checker": [None, None],
    },
    "unet/config.json": {"sample_size": 8, "in_channels": 4},
    "vae/config.json": {"block_out_channels": [8, 8, 16, 16]},
    "text_encoder/config.json": {"max_position_embeddings": 77, "num_hidden_layers": 2},
}
WEIGHTS = {
    "unet/diffusion_pytorch_model.safetensors": (2, 3),
    "vae/diffusion_pytorch_model.safetensors": (5,),
    "text_encoder/model.safetensors": (2, 2, 2),
}


def write_weights(file: Path, *shapes: tuple[int, ...], value: float = 0.0) -> None:
    """A safetensors file with a tensor of each shape."""
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {f"t{n}": np.full(shape, value, np.float16) for n, shape in enumerate(shapes)}
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.fixture
def write() -> Any:
    """Writes a safetensors file."""
    return write_weights


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The folder of a Stable Diffusion pipeline with next to no weights."""
    folder = tmp_path / "tiny"
    for name, shape in WEIGHTS.items():
        write_weights(folder / name, shape)
    for name, content in CONFIGS.items():
        (folder / name).write_text(json.dumps(content))
    return folder
