"""Checking a model on prompts it never saw: `python -m workers.starter.check`.

Pictures come from the plain `StableDiffusionPipeline`, verdicts from pixels alone (`judge.py`).
Neither imports the drawing or the training code.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray

from workers.starter.judge import Reading, read_picture
from workers.starter.prompts import Prompt, held_out_prompts

Pixels = NDArray[np.uint8]

MODEL_FOLDER: Final = Path(__file__).with_name("model")
BATCH: Final = 25
GUIDANCE_SCALE: Final = 3.0

THRESHOLDS: Final = {"background": 0.98, "colour": 0.95, "shape": 0.90}
"""Least share of right verdicts for a model that is good enough."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the pictures are made; picture i uses the random seed `seed` + i."""

    model: Path = MODEL_FOLDER
    steps: int = 20
    guidance_scale: float = GUIDANCE_SCALE
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """Shares of right verdicts (0 to 1) and what was taken for what."""

    count: int
    shares: dict[str, float]
    confusions: dict[str, dict[str, int]]
    mean_overlap: float

    def passes(self) -> bool:
        """Say whether every share reaches its threshold."""
        return all(self.shares[name] >= least for name, least in THRESHOLDS.items())


def load_pipeline(model: Path) -> StableDiffusionPipeline:
    """Load the model folder the plain way, on CUDA if there is a device."""
    pipeline = StableDiffusionPipeline.from_pretrained(str(model))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to("cuda" if torch.cuda.is_available() else "cpu")


def make_pictures(
    pipeline: StableDiffusionPipeline, texts: Sequence[str], settings: Settings
) -> Iterator[Pixels]:
    """Yield one picture for each text, shape (64, 64, 3), eight-bit sRGB."""
    for start in range(0, len(texts), BATCH):
        batch = list(texts[start : start + BATCH])
        seeds = range(settings.seed + start, settings.seed + start + len(batch))
        result = pipeline(
            batch,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance_scale,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        )
        for image in result.images:
            yield np.asarray(image.convert("RGB"))


def judge_pictures(prompts: Sequence[Prompt], pictures: Sequence[Pixels]) -> Report:
    """Compare what the pictures show with what the prompts ask for."""
    right: Counter[str] = Counter()
    confused: dict[str, Counter[str]] = {name: Counter() for name in THRESHOLDS}
    overlaps = []
    for prompt, picture in zip(prompts, pictures, strict=True):
        reading = read_picture(picture)
        overlaps.append(reading.overlap)
        for name, wanted, seen in _compare(prompt, reading):
            right[name] += wanted == seen
            if wanted != seen:
                confused[name][f"{wanted} taken for {seen}"] += 1
    shares = {name: right[name] / len(prompts) for name in THRESHOLDS}
    confusions = {name: dict(counts.most_common()) for name, counts in confused.items()}
    return Report(len(prompts), shares, confusions, float(np.mean(overlaps)))


def _compare(prompt: Prompt, reading: Reading) -> list[tuple[str, str, str]]:
    """Return (what, wanted word, seen word) for the three verdicts."""
    wanted = prompt.combination
    return [
        ("background", wanted.background, reading.background),
        ("colour", wanted.colour, reading.colour),
        ("shape", wanted.shape, reading.shape),
    ]


def check_model(
    settings: Settings,
    count: int,
    choose: Callable[[int], list[Prompt]] = held_out_prompts,
) -> Report:
    """Make `count` pictures and judge them."""
    prompts = choose(count)
    pipeline = load_pipeline(settings.model)
    pictures = make_pictures(pipeline, [prompt.text for prompt in prompts], settings)
    return judge_pictures(prompts, list(pictures))


def print_report(report: Report) -> None:
    """Print the shares against their thresholds, and every confusion."""
    print(f"{report.count} held-out prompts, mean outline overlap {report.mean_overlap:.3f}")
    for name, share in report.shares.items():
        print(f"{name:<10} {share:7.1%} right (at least {THRESHOLDS[name]:.0%} wanted)")
        for words, times in report.confusions[name].items():
            print(f"    {times:>3} x {words}")
    print("good enough" if report.passes() else "NOT good enough")


def main() -> int:
    """Read the command line, check, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL_FOLDER, help="model folder")
    parser.add_argument("--count", type=int, default=500, help="how many prompts")
    parser.add_argument("--steps", type=int, default=20, help="sampling steps")
    parser.add_argument("--guidance-scale", type=float, default=GUIDANCE_SCALE)
    parser.add_argument("--seed", type=int, default=0, help="seed of the first picture")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options = parser.parse_args()
    settings = Settings(options.model, options.steps, options.guidance_scale, options.seed)
    report = check_model(settings, options.count)
    if options.json:
        content = {
            "count": report.count,
            "passes": report.passes(),
            "shares": report.shares,
            "thresholds": THRESHOLDS,
            "mean_overlap": report.mean_overlap,
            "confusions": report.confusions,
        }
        print(json.dumps(content, indent=2))
    else:
        print_report(report)
    return 0 if report.passes() else 1


if __name__ == "__main__":
    sys.exit(main())
