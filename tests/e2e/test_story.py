"""Every manifest of ``examples/`` as it stands, through the real program.

The models they name are tiny ones with random weights, in the cache of the hub's client. Sizes
and steps are cut on the command line, which goes before the manifest.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imwatermark import WatermarkDecoder
from PIL import Image

from tests.models import classic
from tests.models.hub import COMMIT, put_in_cache
from tests.models.phases import drawing, mask

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
SD1 = "CompVis/stable-diffusion-v1-4"
HUB: dict[str, Callable[[Path], Path]] = {
    SD1: classic.stable_diffusion,
    "stabilityai/stable-diffusion-2-1": partial(
        classic.stable_diffusion, seed=21, prediction_type="v_prediction"
    ),
    "stabilityai/stable-diffusion-2-depth": classic.depth,
    "stabilityai/stable-diffusion-x4-upscaler": classic.upscaler,
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the models the examples name."""
    cache = tmp_path_factory.mktemp("hub")
    for repository, build in HUB.items():
        put_in_cache(cache, repository, build)
    return cache


@pytest.fixture(autouse=True)
def _offline(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(hub))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def render(program: Any) -> Callable[..., list[dict[str, Any]]]:
    """Renders an example at the width given; its images."""

    def run(
        name: str, *options: str, width: int = 128, job: str | None = None
    ) -> list[dict[str, Any]]:
        cut = ("--threads", "1", "--set", "num_inference_steps=3", "--set", f"width={width}")
        manifest, named = EXAMPLES / f"{name}.yaml", job or name
        program.run("render", manifest, "--name", named, "--no-reuse", *cut, *options)
        found: list[dict[str, Any]] = program.json("images", "--job", named)["images"]
        program.check(named, items=len(found))
        assert not [one for one in found if one["outcome"] != "rendered"]
        return found

    return run


Render = Callable[..., list[dict[str, Any]]]
SQUARE = ("--set", "height=128")


def groups_of(program: Any) -> list[dict[str, Any]]:
    return [json.loads(spec) for (spec,) in program.query("SELECT spec FROM groups ORDER BY id")]


def pixels(program: Any, image: dict[str, Any]) -> Any:
    return np.asarray(Image.open(io.BytesIO((program.folder / image["file"]).read_bytes())))


def test_hello_world_by_plms_the_same_on_a_small_card_and_on_a_cpu(
    program: Any, render: Render
) -> None:
    large = render("hello", *SQUARE, "--vram-limit", "24")
    small = render("hello-small-card", *SQUARE, "--vram-limit", "0.2", "--home", program.home)
    cpu = render("hello-cpu", *SQUARE, "--device", "cpu")

    assert len(large) == len(small) == 4
    assert {one["scheduler"] for one in (*large, *small, *cpu)} == {"plms"}
    assert {one["rendering"]["mode"] for one in large} == {"resident"}
    assert {one["rendering"]["mode"] for one in cpu} == {"cpu"}
    assert {one["revision"] for one in large} == {COMMIT}
    for ours, theirs in zip(small, large, strict=True):
        apart = pixels(program, ours).astype(int) - pixels(program, theirs)
        assert np.abs(apart).max() <= 1
    # Its batch is of one picture, not of four.
    assert np.abs(pixels(program, cpu[0]).astype(int) - pixels(program, large[0])).max() <= 1


def test_a_picture_from_a_sketch(program: Any, render: Render) -> None:
    images = render("sketch")

    assert {(one["width"], one["height"]) for one in images} == {(128, 96)}
    made = groups_of(program)
    assert {(spec["kind"], spec["strength"]) for spec in made} == {
        ("image-to-image", 0.8),
        ("image-to-image", 0.6),
    }
    first = program.json("image", "sketch/0")["settings"]
    assert first == {"kind": "image-to-image", "strength": 0.8}
    assert "0.8" in program.run("image", "sketch/0").stdout
    with Image.open(EXAMPLES / "sketch.png") as sketch:
        sketched = np.asarray(sketch.convert("RGB").resize((128, 96))).astype(int)
    assert all(np.abs(pixels(program, one) - sketched).mean() > 5 for one in images)


def test_v_prediction_with_a_negative_prompt(program: Any, render: Render) -> None:
    with_negative = render("negative", *SQUARE)
    without = render("negative", *SQUARE, "--set", "negative_prompt=", job="without")

    assert with_negative[0]["negative_prompt"].startswith("blurry")
    assert len(without) == 2
    for one, other in zip(with_negative, without, strict=True):
        assert not np.array_equal(pixels(program, one), pixels(program, other))


def test_another_picture_with_the_same_depths(program: Any, render: Render) -> None:
    images = render("depth")

    assert {spec["kind"] for spec in groups_of(program)} == {"depth-to-image"}
    assert {(one["width"], one["height"]) for one in images} == {(128, 96)}


def test_four_times_as_wide_and_high_alone_and_as_a_second_stage(
    program: Any, render: Render
) -> None:
    alone, second = render("upscale", width=64)

    assert {spec["kind"] for spec in groups_of(program)} == {"upscale", "text-to-image"}
    shapes = {pixels(program, one).shape for one in (alone, second)}
    assert shapes == {(48, 64, 3), (256, 256, 3)}


def test_the_watermark_is_read_by_the_official_decoder(program: Any, render: Render) -> None:
    (image,) = render("watermark", "--set", "height=512", width=512)

    written = image["produced"]["watermark"]
    found = WatermarkDecoder("bytes", 136).decode(
        np.ascontiguousarray(pixels(program, image)[..., ::-1]), "dwtDct"
    )
    assert written["bits"] == 136
    assert (found == b"StableDiffusionV1") == (not written["wrong"])


def test_adapters_and_masks_from_one_manifest(program: Any, tmp_path: Path, hub: Path) -> None:
    model = hub / f"models--{SD1.replace('/', '--')}" / "snapshots" / COMMIT
    classic.lora(tmp_path / "style" / "pytorch_lora_weights.safetensors", model, text=True)
    classic.controlnet(tmp_path / "edges", model)
    classic.ip_adapter(tmp_path / "ip", model)
    drawing(1, 64, 64).save(tmp_path / "drawing.png")
    mask(0, 64, 64).save(tmp_path / "mask.png")
    fields: list[dict[str, Any]] = [
        {},
        {"loras": [{"id": "./style", "weight": 0.8}]},
        {"controlnet": "./edges", "control_image": "drawing.png"},
        {"image": "drawing.png", "mask_image": "mask.png"},
        {"ip_adapter": "./ip", "ip_adapter_image": "drawing.png"},
    ]
    same = {"prompt": "a red thing", "model": SD1, "seed": 3, "width": 64, "height": 64}
    (tmp_path / "adapters.jsonl").write_text(
        "".join(json.dumps(same | more) + "\n" for more in fields)
    )

    program.run("render", "adapters.jsonl", "--threads", "1", "--set", "num_inference_steps=3")

    program.check("adapters", items=len(fields))
    images = program.json("images", "--job", "adapters")["images"]
    assert not [one for one in images if one["outcome"] != "rendered"]
    assert len({one["pixels_sha256"] for one in images}) == len(fields)
    assert len({one["render_key"] for one in images}) == len(fields)
    assert sorted(spec["kind"] for spec in groups_of(program)) == [
        "inpaint",
        *["text-to-image"] * 4,
    ]
