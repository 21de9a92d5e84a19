"""Rows made from pictures, from the manifest to the catalog and back, with the starter model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from PIL import Image

SKETCH = Path(__file__).parents[2] / "examples" / "sketch.png"
QUICK = ("--set", "num_inference_steps=2", "--processes", "1")


def write(program: Any, name: str, *rows: dict[str, Any]) -> str:
    star = {"prompt": "a red star on a blue background", "seed": 1}
    text = "".join(json.dumps(star | row) + "\n" for row in rows)
    (program.folder / name).write_text(text)
    return name


def picture_of(program: Any, image: dict[str, Any]) -> Image.Image:
    with Image.open(program.folder / image["file"]) as picture:
        picture.load()
        return picture


def test_pictures_of_the_manifest_become_pictures_that_render_themselves_again(
    program: Any,
) -> None:
    shutil.copy(SKETCH, program.folder)
    mask = Image.new("L", (512, 384))
    mask.paste(255, (100, 100, 400, 300))
    mask.save(program.folder / "mask.png")
    rows = (
        {"image": "sketch.png", "strength": 0.8, "width": 64},
        {"image": "sketch.png", "mask": "mask.png", "width": 64},
    )

    program.run("render", write(program, "first.jsonl", *rows), *QUICK)

    listed = program.json("images", "--job", "first")["images"]
    pictures = [picture_of(program, image) for image in listed]
    assert [picture.size for picture in pictures] == [(64, 48)] * 2
    own = [json.loads(picture.info["rendermill"])["item"] for picture in pictures]
    assert [row["kind"] for row in own] == ["image-to-image", "inpaint"]
    assert len(list((program.home / "inputs").iterdir())) == 2

    (program.folder / "sketch.png").unlink()  # the copy under its hash is enough
    program.run(
        "render", write(program, "again.jsonl", *own, {"image": "first/0", "width": 32}), *QUICK
    )

    *same, _made_from_an_image = program.json("images", "--job", "again")["images"]
    for before, image in zip(pictures, same, strict=True):
        assert picture_of(program, image).tobytes() == before.tobytes()
