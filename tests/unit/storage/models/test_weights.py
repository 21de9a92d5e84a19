"""The hash of the weights that were loaded."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from storage.models.weights import weights_hash

Write = Callable[..., None]

COMPONENTS = ("text_encoder", "unet", "vae")
UNET = "unet/diffusion_pytorch_model.safetensors"


def test_the_hash_is_sixteen_digits_and_the_same_wherever_the_weights_lie(model: Path) -> None:
    before = weights_hash(model, COMPONENTS)
    assert len(bytes.fromhex(before)) == 8
    moved = model.rename(model.with_name("moved"))
    os.utime(moved / UNET, (1, 1))
    assert weights_hash(moved, COMPONENTS) == before


def test_one_changed_number_changes_the_hash(model: Path, write: Write) -> None:
    before = weights_hash(model, COMPONENTS)
    size = (model / UNET).stat().st_size
    write(model / UNET, (2, 3), value=0.5)
    os.utime(model / UNET, (2, 2))  # replaced later, by a file of the same size
    assert (model / UNET).stat().st_size == size
    assert weights_hash(model, COMPONENTS) != before


def test_only_the_weights_that_are_used_count_and_in_their_order(model: Path, write: Write) -> None:
    before = weights_hash(model, COMPONENTS)
    write(model / "unet" / "diffusion_pytorch_model.fp16.safetensors", (9,))
    write(model / "safety_checker" / "model.safetensors", (9,))
    (model / "model_index.json").unlink()
    assert weights_hash(model, COMPONENTS) == before
    assert weights_hash(model, ("unet", "text_encoder", "vae")) != before
    assert weights_hash(model, ("unet",)) != before
