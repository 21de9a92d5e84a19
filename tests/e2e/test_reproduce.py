"""``rendermill reproduce``: the same picture again, from the catalog and from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from tests.models import classic

MANIFEST = "a red circle on a white background\na blue star on a black background\n" * 3


@pytest.fixture
def rendered(program: Any) -> Path:
    """Six pictures by the starter model; one of their files."""
    manifest = program.folder / "prompts.txt"
    manifest.write_text(MANIFEST)
    program.run("render", manifest, "--name", "six", "--set", "steps=2", "--threads", "1")
    return Path(program.home) / "renders/six/00000/000000004.png"


@pytest.mark.slow
def test_an_image_of_the_catalog_comes_out_equal(program: Any, rendered: Path) -> None:
    again = program.folder / "again.png"
    done = program.run("reproduce", "six/4", "-o", again, "--json")
    told = json.loads(done.stdout)
    assert told["verdict"] == "equal"
    assert told["changed_facts"] == []
    with Image.open(again) as new, Image.open(rendered) as old:
        assert new.tobytes() == old.tobytes()
    assert len(json.loads(program.run("jobs", "--json").stdout)) == 1, "the catalog stays as it is"


@pytest.mark.slow
def test_a_file_anywhere_is_made_again_from_its_own_metadata(
    program: Any, rendered: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "found-somewhere.png"
    alone.write_bytes(rendered.read_bytes())
    nowhere = program.folder / "no-home"
    said = program.run("reproduce", alone, "--home", nowhere).stdout
    assert "every pixel is the same" in said


@pytest.mark.slow
def test_a_picture_that_was_changed_is_said_to_differ(
    program: Any, rendered: Path, tmp_path: Path
) -> None:
    changed = tmp_path / "painted-over.png"
    with Image.open(rendered) as picture:
        texts = PngImagePlugin.PngInfo()
        texts.add_text("rendermill", picture.info["rendermill"])
        picture.paste((1, 2, 3), (0, 0, 9, 9))
        picture.save(changed, pnginfo=texts)
    said = program.run("reproduce", changed, code=3).stdout
    assert "differs" in said
    assert "of 255 levels" in said
    assert "Nothing that is recorded" in said


@pytest.mark.slow
def test_in_another_dtype_it_differs_and_that_is_said(program: Any, rendered: Path) -> None:
    told = json.loads(
        program.run("reproduce", rendered, "--dtype", "bfloat16", "--json", code=3).stdout
    )
    assert told["verdict"] == "differs"
    changed = [(one["made with"], one["then"], one["now"]) for one in told["changed_facts"]]
    assert ("dtype", "float32", "bfloat16") in changed


LARGE = ("--set", "width=128", "--set", "height=128")

JOB = """
name: rich
seed: 4
dynamic_prompts: random
output: {{format: webp, quality: 70, watermark: ours}}
defaults: {{model: {sd}, width: 64, height: 64, num_inference_steps: 2}}
items:
- prompt: "a {{red|blue|green|grey}} thing"
  num_images: 2
  loras: [{{id: {lora}, weight: 0.7}}]
  upscale: {{model: {upscaler}, factor: 4, num_inference_steps: 2}}
"""


@pytest.mark.slow
def test_what_went_through_every_step_comes_out_equal_from_its_file_alone(
    program: Any, tmp_path: Path
) -> None:
    """A dynamic prompt, a LoRA, a second stage, a watermark, a lossy file."""
    model = classic.stable_diffusion(tmp_path / "sd")
    lora = classic.lora(tmp_path / "lora" / "pytorch_lora_weights.safetensors", model, text=True)
    upscaler = classic.upscaler(tmp_path / "upscaler")
    job = program.folder / "rich.yaml"
    job.write_text(JOB.format(sd=model, lora=lora.parent, upscaler=upscaler))
    program.run("render", job, "--threads", "1")
    file = program.home / "renders/rich/00000/000000001.webp"

    told = json.loads(program.run("reproduce", file, "--json", code=None).stdout)

    assert told["verdict"] == "equal", told
    assert told["changed_facts"] == []


@pytest.mark.slow
def test_what_memory_forced_is_done_again(program: Any, tmp_path: Path) -> None:
    classic.stable_diffusion(tmp_path / "sd")
    manifest = program.folder / "two.txt"
    manifest.write_text("a red thing\na blue thing\n")
    options = ("--model", "./sd", "--threads", "1", "--set", "steps=2", *LARGE)
    (group,) = program.json("render", manifest, "--dry-run", *options)["groups"]
    tiled = next(need for need in group["modes"] if need.get("tiled"))
    limit = repr((tiled["memory_bytes"] + 1) / 2**30)
    program.run("render", manifest, *options, "--vram-limit", limit)
    rendering = program.json("image", "two/1")["rendering"]
    assert rendering["steps_down"] == ["tiled"]

    told = program.json("reproduce", "two/1")

    assert told["verdict"] == "equal"
    assert told["changed_facts"] == []


def test_a_picture_without_metadata_says_what_to_do(program: Any, tmp_path: Path) -> None:
    bare = tmp_path / "bare.png"
    Image.new("RGB", (8, 8)).save(bare)
    done = program.run("reproduce", bare, code=2)
    assert "does not say how it was made" in done.stderr
    assert "JOB/ITEM" in done.stderr


def test_something_that_is_neither_file_nor_image_is_refused(program: Any) -> None:
    Path(program.home).mkdir(parents=True, exist_ok=True)
    done = program.run("reproduce", "nothing-at-all", code=None)
    assert done.returncode in (1, 2)
    assert "error" in done.stderr
