"""Writing the trained parts as a folder that `StableDiffusionPipeline.from_pretrained` loads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Final

import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, CLIPTokenizer

from storage.models.card import DEFAULTS_FILE
from workers.starter.tokenizer import save_tokenizer

DEFAULTS: Final = {"guidance_scale": 3.0, "num_inference_steps": 20}
"""What a row that says nothing is rendered with; the checker uses the same."""


def new_scheduler() -> DPMSolverMultistepScheduler:
    """Return the scheduler of the model folder, good from about eight steps on.

    The cosine schedule ends at nearly pure noise and sampling starts there ("trailing"), so that
    the model can reach plain white and plain black backgrounds.
    """
    return DPMSolverMultistepScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        algorithm_type="dpmsolver++",
        solver_order=2,
        steps_offset=1,
    )


def export_model(
    folder: Path,
    vae: AutoencoderKL,
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
) -> None:
    """Write the model folder; files in it that are not part of the model stay.

    The parts are turned to half precision in place, so pass copies if they train on.
    """
    pipeline = StableDiffusionPipeline(
        vae=vae.to("cpu"),
        text_encoder=text_encoder.to("cpu"),
        tokenizer=tokenizer,
        unet=unet.to("cpu"),
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(dtype=torch.float16)
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    pipeline.save_pretrained(str(fresh), safe_serialization=True)
    save_tokenizer(tokenizer, fresh / "tokenizer")
    _ask_for_full_precision(fresh / "text_encoder" / "config.json")
    _forget_origin(fresh)
    defaults = json.dumps(DEFAULTS, indent=2, sort_keys=True)
    (fresh / DEFAULTS_FILE).write_text(defaults + "\n", encoding="utf-8")
    for notes in folder.glob("*.md"):
        shutil.copy2(notes, fresh / notes.name)
    _swap(fresh, folder)


def _ask_for_full_precision(config: Path) -> None:
    """Make a plain load give 32-bit parameters: loading follows the type named in the config."""
    values = json.loads(config.read_text(encoding="utf-8"))
    values["dtype"] = "float32"
    config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _forget_origin(folder: Path) -> None:
    """Take out where a part was loaded from: a path of the machine that trained it."""
    for config in folder.glob("*/config.json"):
        values = json.loads(config.read_text(encoding="utf-8"))
        if values.pop("_name_or_path", None) is not None:
            config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _swap(fresh: Path, folder: Path) -> None:
    """Put the fresh folder in place of the old one."""
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.replace(old)
    fresh.replace(folder)
    shutil.rmtree(old, ignore_errors=True)
