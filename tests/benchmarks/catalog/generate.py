"""Rows of a catalog as farms fill it: jobs of some thousands of rows, four images a row.

Words follow Zipf's law: a list of real prompts' words at its head, made-up names in its long
tail. The same seed gives the same rows.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import msgspec

from storage.db.images import ImageRow

IMAGES_PER_ROW: Final = 4
ROWS_PER_JOB: Final = 5_000
START: Final = 1_700_000_000.0
SPAN: Final = 40_000_000.0
"""Seconds from the first image to the last, however many there are: some fifteen months."""

TAIL: Final = 60_000

MODELS: Final = (
    ("stabilityai/stable-diffusion-xl-base-1.0", 40),
    ("stable-diffusion-v1-5/stable-diffusion-v1-5", 25),
    ("black-forest-labs/FLUX.1-schnell", 15),
    ("stabilityai/sdxl-turbo", 9),
    ("PixArt-alpha/PixArt-Sigma-XL-2-1024-MS", 6),
    ("sdxl/own-finetune-3", 4),
    ("starter", 1),
)
SIZES: Final = (((1024, 1024), 45), ((512, 512), 25), ((768, 1344), 12), ((1152, 896), 10),
                ((64, 64), 5), ((1536, 1024), 3))  # fmt: skip
STEPS: Final = ((30, 40), (20, 25), (50, 15), (4, 10), (25, 8), (8, 2))
GUIDANCE: Final = ((7.5, 40), (4.0, 20), (5.0, 15), (3.5, 10), (0.0, 10), (12.0, 5))
SAMPLERS: Final = (("euler", 40), ("dpm++_2m_karras", 30), ("ddim", 15), ("unipc", 10), ("lms", 5))
DEVICES: Final = (("NVIDIA GeForce RTX 4090", 50), ("NVIDIA H200", 30), ("NVIDIA L4", 15),
                  ("cpu/8", 5))  # fmt: skip
CATEGORIES: Final = (("Animals", 25), ("People", 20), ("World Knowledge", 15), ("Artifacts", 12),
                     ("Illustrations", 10), ("Food & Beverage", 8), ("Vehicles", 6),
                     ("Abstract", 4))  # fmt: skip
NEGATIVES: Final = (("", 40), ("blurry, low quality, watermark", 40), ("text, extra fingers", 20))

HEAD: Final = (
    "a",
    "of",
    "the",
    "in",
    "with",
    "and",
    "on",
    "by",
    "at",
    "photo",
    "painting",
    "red",
    "blue",
    "fox",
    "cat",
    "dog",
    "house",
    "river",
    "mountain",
    "old",
    "young",
    "woman",
    "man",
    "portrait",
    "light",
    "dark",
    "forest",
    "city",
    "street",
    "night",
    "morning",
    "sky",
    "sea",
    "boat",
    "train",
    "car",
    "robot",
    "dragon",
    "castle",
    "garden",
    "flower",
    "tree",
    "bird",
    "horse",
    "child",
    "king",
    "queen",
    "glass",
    "metal",
    "wooden",
    "small",
    "large",
    "beautiful",
    "detailed",
    "cinematic",
    "soft",
    "warm",
    "cold",
    "style",
    "oil",
    "watercolor",
    "sketch",
    "render",
    "studio",
)
"""Used where no list of prompts is given."""


class Made(msgspec.Struct, frozen=True):
    """One row of a manifest and the images made of it."""

    images: list[ImageRow]
    job: str


def words_in(path: Path | None) -> list[str]:
    """The words of a table of prompts, the most frequent first; or a short list of our own."""
    if path is None:
        return list(HEAD)
    counts: dict[str, int] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            for word in row["Prompt"].split():
                counts[word] = counts.get(word, 0) + 1
    return sorted(counts, key=lambda word: (-counts[word], word))


class Maker:
    """Makes the rows of a catalog, in the order they were recorded."""

    def __init__(self, words: list[str], seed: int) -> None:
        self._random = random.Random(seed)
        self._words = words + self._names(TAIL)
        self._weights = list(accumulate(1.0 / (10.0 + rank) for rank in range(len(self._words))))

    def _names(self, count: int) -> list[str]:
        parts = ["ka", "lo", "mi", "ren", "tu", "vax", "zen", "or", "il", "sha", "dor", "eth"]
        names: dict[str, None] = {}
        while len(names) < count:
            names["".join(self._random.choices(parts, k=self._random.randint(3, 6)))] = None
        return list(names)

    def rows(self, images: int) -> Iterator[Made]:
        """Manifest rows until there are that many images."""
        per_job = ROWS_PER_JOB * IMAGES_PER_ROW
        at = START
        step = SPAN / images * IMAGES_PER_ROW
        for first in range(0, images, per_job):
            job_id = first // per_job + 1
            setting = self._setting()
            for row in range(min(per_job, images - first) // IMAGES_PER_ROW):
                if row % 50 == 0:
                    setting |= self._swept()
                at += step
                yield Made(self._images(job_id, row, setting, at), f"job-{job_id}")

    def _one(self, among: tuple[tuple[Any, int], ...]) -> Any:
        return self._random.choices([one for one, _ in among], [w for _, w in among])[0]

    def _setting(self) -> dict[str, Any]:
        return {"model": self._one(MODELS), "sampler": self._one(SAMPLERS)}

    def _swept(self) -> dict[str, Any]:
        rendering = {"mode": self._random.choice(["resident", "resident", "lean", "phased"]),
                     "dtype": "float16", "device": self._one(DEVICES), "batch": 4,
                     "weights": "0123456789abcdef"}  # fmt: skip
        return {
            "size": self._one(SIZES),
            "steps": self._one(STEPS),
            "cfg": self._one(GUIDANCE),
            "negative": self._one(NEGATIVES),
            "worker": self._random.randint(1, 16),
            "rendering": msgspec.json.encode(rendering).decode(),
            "tags": msgspec.json.encode({"Category": self._one(CATEGORIES)}).decode(),
        }

    def _prompt(self) -> str:
        count = min(40, max(3, int(self._random.lognormvariate(2.5, 0.5))))
        return " ".join(self._random.choices(self._words, cum_weights=self._weights, k=count))

    def _images(self, job_id: int, row: int, setting: dict[str, Any], at: float) -> list[ImageRow]:
        prompt = self._prompt()
        chance = self._random.random
        long = len(prompt) > 160
        width, height = setting["size"]
        made = []
        for image_no in range(IMAGES_PER_ROW):
            item = row * IMAGES_PER_ROW + image_no
            seed = 42 if chance() < 0.0005 else int(chance() * 2**32)
            failed = chance() < 0.01
            key = f"{job_id}/{item // 1000:05d}/{item:09d}"
            made.append(
                ImageRow(
                    job_id,
                    item,
                    job_id,
                    job_id,
                    setting["worker"],
                    "failed" if failed else "rendered",
                    ("nan" if chance() < 0.5 else "out-of-memory") if failed else None,
                    "attempt 1: out of memory" if failed else None,
                    row,
                    row + 2,
                    image_no,
                    prompt,
                    setting["negative"],
                    seed,
                    setting["model"],
                    None,
                    width,
                    height,
                    setting["steps"],
                    setting["cfg"],
                    setting["sampler"],
                    setting["tags"],
                    None if failed else f"renders/{key}.png",
                    None if failed else f"thumbnails/{key}.webp",
                    None if failed else int(width * height * (0.8 + chance())),
                    None if failed else "0" * 64,
                    "1" * 32,
                    setting["rendering"],
                    3 if long else 0,
                    None if failed else round(setting["steps"] * (0.05 + 0.1 * chance()), 3),
                    at + image_no * 0.01,
                )
            )
        return made
