"""Models of the transformer families, the groups that are rendered with them, and their calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from storage.contract.items import IMAGE_TO_IMAGE, INPAINT, BatchShape, GroupSpec
from storage.testing.factories import make_item
from tests.models.flux import flux
from tests.models.flux2 import flux2, flux2_klein
from tests.models.pixart import pixart
from tests.models.qwen_image import qwen_image
from tests.models.sana import sana, sana_sprint
from tests.models.stable_diffusion_3 import stable_diffusion_3
from tests.models.z_image import z_image

ITEMS = [
    make_item(n, prompt=text, negative_prompt=negative, seed=11 + n)
    for n, (text, negative) in enumerate(
        [
            ("a red thing", "dull"),
            ("a much longer prompt, of a blue thing", ""),
            ("x", "grey, flat"),
        ]
    )
]


@dataclass(frozen=True)
class Case:
    """A model by how it is built, its group, and how diffusers is called for the same."""

    name: str
    build: Callable[[Path], Path]
    spec: dict[str, Any] = field(default_factory=dict)
    call: dict[str, Any] = field(default_factory=dict)
    pipeline: str | None = None
    negatives: bool = True  #: whether the call takes negative prompts
    alone: bool = False  #: whether an ordinary call is of one image
    absent: tuple[str, ...] = ()  #: components the model was saved without
    model: str = ""  #: the name of the case it shares its folder with

    def __str__(self) -> str:
        return self.name


NO_CLEANING = {"clean_caption": False}
CASES = [
    Case("sd3", stable_diffusion_3),
    Case("sd3-clip-skip", stable_diffusion_3, {"clip_skip": 1}, {"clip_skip": 1}),
    Case(
        "sd3-short",
        stable_diffusion_3,
        {"max_sequence_length": 20, "guidance_scale": 1.0},
        {"max_sequence_length": 20},
    ),
    Case(
        "sd3-without-t5",
        lambda folder: stable_diffusion_3(folder, t5=False),
        absent=("text_encoder_3", "tokenizer_3"),
    ),
    Case("flux", flux, {"guidance_scale": 3.5}, negatives=False),
    Case("flux-true-cfg", flux, {"true_cfg_scale": 2.5}, {"true_cfg_scale": 2.5}),
    Case(
        "flux-schnell",
        lambda folder: flux(folder, guidance_embeds=False),
        {"max_sequence_length": 256},
        {"max_sequence_length": 256},
        negatives=False,
    ),
    Case("flux2", flux2, {"max_sequence_length": 64}, {"max_sequence_length": 64}, negatives=False),
    Case(
        "klein",
        flux2_klein,
        {"max_sequence_length": 64},
        {"max_sequence_length": 64},
        negatives=False,
    ),
    Case(
        "klein-distilled",
        lambda folder: flux2_klein(folder, distilled=True),
        {"max_sequence_length": 64},
        {"max_sequence_length": 64},
        negatives=False,
    ),
    Case("pixart", pixart, {"scheduler": "dpm++_2m"}, NO_CLEANING),
    Case(
        "pixart-unguided",
        pixart,
        {"scheduler": "ddim", "guidance_scale": 1.0},
        NO_CLEANING,
    ),
    Case(
        "pixart-alpha",
        lambda folder: pixart(folder, alpha=True),
        {"scheduler": "euler_a", "max_sequence_length": 40},
        {**NO_CLEANING, "max_sequence_length": 40},
    ),
    Case("sana", sana, {"scheduler": "DPMSolverMultistepScheduler"}),
    Case("sana-unguided", sana, {"scheduler": "dpm++_2m", "guidance_scale": 1.0}),
    Case("sprint", sana_sprint, {"scheduler": "scm", "num_inference_steps": 2}, negatives=False),
    Case(
        "sprint-one-step",
        sana_sprint,
        {"scheduler": "scm", "num_inference_steps": 1},
        {"intermediate_timesteps": None},
        negatives=False,
    ),
    Case("qwen", qwen_image, {"true_cfg_scale": 3.0}, {"true_cfg_scale": 3.0}, alone=True),
    Case("qwen-unguided", qwen_image, {"guidance_scale": 1.0}, {"true_cfg_scale": 1.0}, alone=True),
    Case("z-image", z_image, {"guidance_scale": 0.0}, alone=True),
]

GUIDED = Case("z-image-cfg", z_image, alone=True, model="z-image")
"""Diffusers computes its two texts together, the shorter one masked: equal but for rounding."""


def pictured(case: Case, kind: str, pipeline: str, **spec: Any) -> Case:
    changes = {"kind": kind, **spec}
    name = f"{case.name}-{kind}-{spec.get('strength', 'usual')}"
    return replace(case, name=name, spec=case.spec | changes, pipeline=pipeline, model=case.name)


BY_NAME = {case.name: case for case in CASES}
PICTURED = [
    pictured(BY_NAME[name], kind, f"{pipeline}{suffix}Pipeline", **strength)
    for name, pipeline, kinds in (
        ("sd3", "StableDiffusion3", (IMAGE_TO_IMAGE, INPAINT)),
        ("flux", "Flux", (IMAGE_TO_IMAGE, INPAINT)),
        ("flux-true-cfg", "Flux", (IMAGE_TO_IMAGE,)),
        ("qwen", "QwenImage", (IMAGE_TO_IMAGE, INPAINT)),
        ("z-image", "ZImage", (IMAGE_TO_IMAGE, INPAINT)),
    )
    for kind, suffix in ((IMAGE_TO_IMAGE, "Img2Img"), (INPAINT, "Inpaint"))
    if kind in kinds
    for strength in ({}, {"strength": 0.5}, {"strength": 1.0})
]


def make_spec(case: Case, folder: Path) -> GroupSpec:
    given = {
        "model": str(folder),
        "width": 64,
        "height": 96,  # not square, so that no side is taken for the other
        "num_inference_steps": 4,
        "guidance_scale": 4.0,
        "scheduler": "flow_euler",
        "batch": BatchShape(encode=3, denoise=3, decode=3),
        **case.spec,
    }
    return GroupSpec(**given)


def folder_of(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The case's model, made once in a run of the tests."""
    folder = tmp_path_factory.getbasetemp() / "transformers" / (case.model or case.name)
    if not folder.exists():
        folder.parent.mkdir(exist_ok=True)
        case.build(folder)
    return folder
