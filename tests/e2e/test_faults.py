"""Bad models and bad pictures among good ones, through the real program and the real engine."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.models import classic
from tests.models.phases import drawing

pytestmark = pytest.mark.slow

SHORT = ("--threads", "1", "--set", "num_inference_steps=2", "--set", "width=64")


def write(program: Any, name: str, rows: list[dict[str, Any]]) -> str:
    (program.folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def _flip_a_bit_of_a_name(weights: Path) -> None:
    data = weights.read_bytes()
    weights.write_bytes(data.replace(b"conv_in.weight", b"conv_io.weight", 1))


def _cut_short(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:-100])


def _change_a_shape(weights: Path) -> None:
    tensors = load_file(weights)
    tensors["conv_in.weight"] = tensors["conv_in.weight"][:1].clone()
    save_file(tensors, weights, metadata={"format": "pt"})


def _pickle(weights: Path) -> None:
    weights.unlink()
    weights.with_suffix(".bin").write_bytes(b"\x80\x04N.")


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "bit": (_flip_a_bit_of_a_name, "tensors are missing"),
    "cut": (_cut_short, "is not a whole safetensors file"),
    "shape": (_change_a_shape, "expected shape"),
    "pickle": (_pickle, "can run code"),
}


def test_models_that_break_after_submit_fail_alone_with_their_file_named(
    program: Any, tmp_path: Path
) -> None:
    models = ["good", *BROKEN]
    for name in models:
        classic.stable_diffusion(tmp_path / name)
    rows = [{"prompt": "a thing", "model": f"./{name}", "height": 64} for name in models]
    manifest = write(program, "mixed.jsonl", rows)
    # A card too small for anything: the job is there, and nothing of it is rendered.
    program.run("render", manifest, *SHORT, "--vram-limit", "0.01", code=1)
    for name, (damage, _) in BROKEN.items():
        damage(tmp_path / name / "unet" / "diffusion_pytorch_model.safetensors")

    done = program.run("resume", "mixed", "--threads", "1", code=3)

    assert "Traceback" not in done.stderr
    program.check("mixed", items=len(rows))
    found = {Path(one["model"]).name: one for one in program.json("images")["images"]}
    assert found["good"]["outcome"] == "rendered"
    for name, (_, said) in BROKEN.items():
        assert (found[name]["outcome"], found[name]["reason"]) == ("failed", "model")
        assert said in found[name]["detail"]
        assert f"/{name}" in found[name]["detail"]
        assert "unet" in found[name]["detail"]


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(drawing(1, 64, 96), "JPEG", exif=exif)


def bomb() -> bytes:
    """A whole file of a few kilobytes whose header asks for gigabytes."""
    return saved(Image.new("1", (60_000, 60_000)), "PNG")[:4096]


def deep() -> bytes:
    return saved(Image.fromarray(np.full((64, 64), 40_000, dtype="uint16")), "PNG")


TAKEN: dict[str, Callable[[], bytes]] = {
    "turned.jpg": turned,
    "inks.jpg": lambda: saved(drawing(2, 64, 64).convert("CMYK"), "JPEG"),
    "deep.png": deep,
}
REFUSED: dict[str, Callable[[], bytes]] = {
    "cut.png": lambda: saved(drawing(3, 64, 64), "PNG")[:-200],
    "bomb.png": bomb,
    "moving.gif": lambda: saved(
        drawing(4, 64, 64), "GIF", save_all=True, append_images=[drawing(5, 64, 64)]
    ),
    "text.png": lambda: b"no picture at all",
    "script.svg": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
}


def test_pictures_are_taken_or_refused_each_with_one_message(program: Any, tmp_path: Path) -> None:
    classic.stable_diffusion(tmp_path / "sd")
    pictures = {**TAKEN, **REFUSED}
    for name, make in pictures.items():
        (tmp_path / name).write_bytes(make())
    rows = [{"prompt": "a thing", "model": "./sd", "image": name} for name in pictures]
    manifest = write(program, "pictures.jsonl", rows)

    refused = program.run("render", manifest, *SHORT, code=2)
    program.run("render", manifest, *SHORT, "--skip-invalid")

    assert "Traceback" not in refused.stderr
    for line, name in enumerate(pictures, 1):
        said = refused.stderr.count(f"pictures.jsonl:{line}: image:")
        assert said == (1 if name in REFUSED else 0), refused.stderr
    program.check("pictures", items=len(TAKEN))
    images = program.json("images")["images"]
    assert [one["outcome"] for one in images] == ["rendered"] * len(TAKEN)
    assert (images[0]["width"], images[0]["height"]) == (64, 40)  # upright: 96 wide, 64 high
