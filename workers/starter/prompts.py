"""Prompts whose pictures the checker judges, with what it should find in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from workers.starter.vocabulary import (
    POSITIONS,
    Combination,
    held_out_combinations,
)

PLACES: Final = {
    "left": " on the left",
    "right": " on the right",
    "top": " at the top",
    "bottom": " at the bottom",
    "centre": " in the centre",
}


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt of one object; size and position are None where the text does not say them."""

    text: str
    combination: Combination
    size: str | None
    position: str | None


def held_out_prompts(count: int, seed: int = 0) -> list[Prompt]:
    """Return prompts of combinations that training never saw, all equally often."""
    return _prompts(held_out_combinations(), count, seed)


def _prompts(combinations: tuple[Combination, ...], count: int, seed: int) -> list[Prompt]:
    rng = np.random.default_rng(seed)
    prompts: list[Prompt] = []
    while len(prompts) < count:
        for index in rng.permutation(len(combinations)):
            prompts.append(_prompt(combinations[index], rng))
    return prompts[:count]


def _prompt(combination: Combination, rng: np.random.Generator) -> Prompt:
    size = (None, "small", "large")[rng.integers(3)]
    position = (None, *POSITIONS)[rng.integers(1 + len(POSITIONS))]
    words = [word for word in (size, combination.colour, combination.shape) if word]
    article = "an" if words[0][0] in "aeiou" else "a"
    place = "" if position is None else PLACES[position]
    text = f"{article} {' '.join(words)}{place} on a {combination.background} background"
    return Prompt(text, combination, size, position)
