"""Every manifest in examples/ is accepted as it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from scheduler.manifest.limits import Limits
from scheduler.service.options import SubmitOptions
from scheduler.service.prepare import Prepared, prepared
from storage.contract.errors import ModelError
from storage.contract.items import GroupSpec
from storage.contract.models import ModelCard
from storage.objects.memory import MemoryStore
from storage.testing.factories import make_card

ROOT: Final = Path(__file__).parents[3]
EXAMPLES: Final = sorted(
    path for path in (ROOT / "examples").iterdir() if path.suffix in (".yaml", ".jsonl")
)

MODELS: Final[dict[str, dict[str, Any]]] = {
    "starter": {},
    "CompVis/stable-diffusion-v1-4": {"width": 512, "height": 512, "scheduler": "PNDMScheduler"},
    "stabilityai/stable-diffusion-2-1": {"width": 768, "height": 768, "text_layers": 23},
    "stabilityai/stable-diffusion-2-depth": {
        "pipeline": "StableDiffusionDepth2ImgPipeline",
        "text_layers": 23,
    },
    "stabilityai/stable-diffusion-x4-upscaler": {
        "pipeline": "StableDiffusionUpscalePipeline",
        "text_layers": 23,
    },
}
"""What the hub says of the models the examples name, as far as it matters here."""


def describe(model: str, revision: str | None) -> ModelCard:
    if model not in MODELS:
        raise ModelError(f"no model {model!r}")
    return make_card(model=model, revision="c" * 40, **MODELS[model])


def read(path: Path) -> tuple[Prepared, list[GroupSpec]]:
    options = SubmitOptions(manifest=str(path))
    with prepared(options, limits=Limits(), describe=describe) as work:
        work.pictures.store_into(MemoryStore())
        return work, [group.spec for group in work.groups]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_accepted(path: Path) -> None:
    work, specs = read(path)

    assert work.items > 0
    assert specs
    assert path.suffix != ".yaml" or work.name == path.stem


def only(name: str) -> GroupSpec:
    _, (spec,) = read(ROOT / "examples" / name)
    return spec


def test_hello_world_is_what_the_original_script_made() -> None:
    spec = only("hello.yaml")

    assert (spec.kind, spec.scheduler, spec.num_inference_steps) == ("text-to-image", "plms", 50)
    assert (spec.width, spec.height, spec.guidance_scale) == (512, 512, 7.5)


def test_the_sketch_gives_its_size_and_keeps_a_fifth() -> None:
    _, specs = read(ROOT / "examples" / "sketch.yaml")

    assert [(spec.kind, spec.strength) for spec in specs] == [
        ("image-to-image", 0.8),
        ("image-to-image", 0.6),
    ]
    assert {(spec.width, spec.height) for spec in specs} == {(512, 384)}


def test_depth_negative_and_upscaling_are_of_their_kinds() -> None:
    assert only("depth.yaml").kind == "depth-to-image"
    assert (only("negative.yaml").width, only("negative.yaml").height) == (768, 768)
    _, (own, staged) = read(ROOT / "examples" / "upscale.yaml")
    assert (own.kind, own.width, own.height, own.picture_size) == (
        "upscale",
        1024,
        768,
        (256, 192),
    )
    assert staged.upscaler is not None
    assert staged.upscaler.model == "stabilityai/stable-diffusion-x4-upscaler"


def test_the_watermark_is_asked_for() -> None:
    work, _ = read(ROOT / "examples" / "watermark.yaml")

    assert work.output.watermark == "family"


def test_the_sketch_is_small() -> None:
    assert (ROOT / "examples" / "sketch.png").stat().st_size < 8192
