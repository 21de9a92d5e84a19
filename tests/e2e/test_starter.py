"""The whole way with the real engine and the model that ships with the package."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

Wait = Callable[[Callable[[], bool], str], None]

FAST = ("--set", "num_inference_steps=4")
COLOURS = ("red", "green", "blue", "yellow")
SHAPES = ("star", "heart", "moon", "tree", "circle", "boat")


@pytest.fixture
def manifest(program: Any) -> str:
    lines = [f"a {c} {s} on a white background\n" for c in COLOURS for s in SHAPES]
    (program.folder / "shapes.txt").write_text("".join(lines))
    return "shapes.txt"


def pixels(files: dict[str, bytes]) -> dict[str, Any]:
    return {
        name: np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        for name, data in files.items()
    }


@pytest.mark.slow
def test_pictures_are_the_same_bit_for_bit_after_kills_and_with_other_workers(
    program: Any, manifest: str, wait_until: Wait
) -> None:
    program.run("render", manifest, "--name", "calm", "--processes", "1", *FAST)
    calm = pixels(program.files("calm"))
    again = ("--no-reuse", *FAST)
    run = program.start("render", manifest, "--name", "wild", "--processes", "2", *again)
    wait_until(lambda: program.rows() > len(calm), "the first images")
    family = [*psutil.Process(run.pid).children(recursive=True), psutil.Process(run.pid)]
    for member in family:
        member.kill()
    run.wait()

    program.run("resume", "wild", "--processes", "1")

    program.check("wild", items=24)
    wild = pixels(program.files("wild"))
    assert wild.keys() == calm.keys()
    assert all(np.array_equal(wild[name], calm[name]) for name in calm)


@pytest.mark.slow
def test_pictures_follow_their_prompts_and_long_ones_are_reported(program: Any) -> None:
    words = "a red circle on a blue background"
    (program.folder / "two.txt").write_text(f"{words}\n{words}, {'very ' * 100}\n")

    done = program.run("render", "two.txt", "--set", "num_inference_steps=20")

    first = pixels(program.files("two"))["000000000.png"].astype(int)
    edge = np.concatenate([first[0], first[-1], first[:, 0], first[:, -1]]).mean(axis=0)
    assert edge[2] > edge[0] + 60, f"the background is not blue: {edge}"
    redness = (first[..., 0] - first[..., 2]).max()
    assert redness > 80, "nothing in the picture is red"
    assert "1 prompts were longer than the text encoder reads" in done.stdout
    (long,) = program.json("images", "--truncated")["images"]
    assert long["truncated_tokens"] > 0
    assert long["rendering"]["dtype"] == "float32"
