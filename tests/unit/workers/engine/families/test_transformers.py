"""Each kind of task of the transformer families against diffusers' own call, on the CPU.

In float32 the phases give the very latents and bytes of an ordinary call of the same batch. Of
Qwen-Image and Z-Image, whose texts have different lengths, they give those of an ordinary call of
each image alone, whatever the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from storage.contract.items import IMAGE_TO_IMAGE, INPAINT, BatchShape, GroupSpec, Item
from storage.testing.factories import make_item
from tests.models.flux import flux
from tests.models.flux2 import flux2, flux2_klein
from tests.models.phases import Phased, drawing, generators, mask, open_whole, to_bytes
from tests.models.pixart import pixart
from tests.models.qwen_image import qwen_image
from tests.models.sana import sana, sana_sprint
from tests.models.stable_diffusion_3 import stable_diffusion_3
from tests.models.z_image import z_image
from workers.engine.families.base import Inputs

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


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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


def pictured(case: Case, kind: str, pipeline: str, **spec: Any) -> Case:
    changes = {"kind": kind, **spec}
    name = f"{case.name}-{kind}-{spec.get('strength', 'usual')}"
    return Case(
        name, case.build, case.spec | changes, case.call, pipeline, case.negatives, case.alone
    )


BY_NAME = {case.name: case for case in CASES}
PICTURED = [
    pictured(BY_NAME[name], kind, f"{pipeline}{suffix}Pipeline", **strength)
    for name, pipeline, kinds in (
        ("sd3", "StableDiffusion3", (IMAGE_TO_IMAGE, INPAINT)),
        ("flux", "Flux", (IMAGE_TO_IMAGE, INPAINT)),
        ("flux-true-cfg", "Flux", (IMAGE_TO_IMAGE,)),
        ("qwen", "QwenImage", (IMAGE_TO_IMAGE, INPAINT)),
        ("z-image", "ZImage", (IMAGE_TO_IMAGE,)),
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
    folder = tmp_path_factory.getbasetemp() / "transformers" / case.name.split("-image-to-")[0]
    folder = folder.with_name(folder.name.split("-inpaint")[0])
    if not folder.exists():
        folder.parent.mkdir(exist_ok=True)
        case.build(folder)
    return folder


def inputs_of(spec: GroupSpec, count: int) -> list[Inputs]:
    size = (spec.width, spec.height)
    return [
        Inputs(
            image=drawing(n, *size) if spec.needs_picture else None,
            mask_image=mask(n, *size) if spec.kind == INPAINT else None,
        )
        for n in range(count)
    ]


class Watched:
    """An adapter whose latents can be seen."""

    def __init__(self, adapter: Any) -> None:
        self._adapter = adapter
        self.latents: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    def denoise(self, *given: Any) -> Any:
        self.latents = self._adapter.denoise(*given)
        return self.latents


def opened(folder: Path, case: Case, pipeline: str | None = None) -> Any:
    return open_whole(folder, pipeline, **dict.fromkeys(case.absent))


def phased(
    folder: Path, case: Case, spec: GroupSpec, items: Sequence[Item], inputs: list[Inputs]
) -> tuple[torch.Tensor, np.ndarray]:
    """Latents and pictures of the phases."""
    run = Phased(opened(folder, case), spec)
    watched = Watched(run.adapter)
    run.adapter = watched
    pictures = run.pictures(items, inputs)
    usual = 0.6 if spec.needs_picture else 1.0
    share = usual if spec.strength is None else spec.strength
    done = spec.num_inference_steps - int(spec.num_inference_steps * (1 - share))
    assert run.steps == list(range(1, done + 1))
    assert pictures.shape == (len(items), spec.height, spec.width, 3)
    assert pictures.std() > 5  # not of one colour
    return watched.latents, pictures


def ordinary(
    folder: Path, case: Case, spec: GroupSpec, items: Sequence[Item], inputs: Sequence[Inputs]
) -> tuple[torch.Tensor, np.ndarray]:
    """Latents and pictures of diffusers' own calls."""
    call: dict[str, Any] = {
        "prompt": [item.prompt for item in items],
        "width": spec.width,
        "height": spec.height,
        "num_inference_steps": spec.num_inference_steps,
        **case.call,
    }
    if case.negatives:
        call["negative_prompt"] = [item.negative_prompt for item in items]
    if "qwen" not in case.name:
        call["guidance_scale"] = spec.guidance_scale
    if spec.needs_picture:
        call["image"] = [slot.image for slot in inputs]
    if spec.kind == INPAINT:
        call["mask_image"] = [slot.mask_image for slot in inputs]
    if spec.strength is not None:
        call["strength"] = spec.strength
    whole = opened(folder, case, case.pipeline)
    results = []
    for output_type in ("latent", "np"):
        own_sampler(whole, spec)
        # Z-Image writes into the list of prompts it is given.
        texts = {name: list(call[name]) for name in ("prompt", "negative_prompt") if name in call}
        given = call | texts
        made = whole(generator=generators(items), output_type=output_type, **given)
        results.append(made.images)
    latents, pictures = results
    return latents, to_bytes(pictures)


def own_sampler(whole: Any, spec: GroupSpec) -> None:
    from workers.engine.families.classic import make_scheduler

    whole.scheduler = make_scheduler(spec.scheduler, whole.scheduler)


def ordinary_of_each(
    folder: Path, case: Case, spec: GroupSpec, items: Sequence[Item], inputs: list[Inputs]
) -> tuple[torch.Tensor, np.ndarray]:
    results = [
        ordinary(folder, case, spec, [item], [slot])
        for item, slot in zip(items, inputs, strict=True)
    ]
    return torch.cat([latents for latents, _ in results]), np.concatenate([p for _, p in results])


def largest_difference(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@pytest.mark.parametrize("case", CASES + PICTURED, ids=str)
def test_the_phases_give_the_pictures_of_an_ordinary_call(
    tmp_path_factory: pytest.TempPathFactory, case: Case
) -> None:
    folder = folder_of(case, tmp_path_factory)
    spec = make_spec(case, folder)
    inputs = inputs_of(spec, len(ITEMS))
    items = ITEMS
    if "klein" in case.name:  # whose ordinary call knows only the empty one
        items = [msgspec.structs.replace(item, negative_prompt="") for item in ITEMS]

    latents, pictures = phased(folder, case, spec, items, inputs)
    own_call = ordinary_of_each if case.alone else ordinary
    own_latents, own_pictures = own_call(folder, case, spec, items, inputs)

    if "klein" not in case.name:  # whose own latents have the VAE's statistics in them
        assert torch.equal(latents, own_latents)
    if case.alone:  # decoded as a batch here
        assert largest_difference(pictures, own_pictures) <= 1
    else:
        assert np.array_equal(pictures, own_pictures)
