"""Captions for scenes, in varied wording.

The plain wording ("a small red star on the left on a blue background") comes most often; the rest
is there so that a user's own way of saying the same thing still works.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from workers.starter.scenes import Scene, SceneObject

SIZE_WORDS: Final = {
    "small": ("small", "small", "small", "little", "tiny"),
    "medium": ("", "", "", "", "", "medium"),
    "large": ("large", "large", "large", "big", "huge"),
}

POSITION_PHRASES: Final = {
    "left": ("on the left", "on the left", "at the left", "to the left", "on the left side"),
    "right": ("on the right", "on the right", "at the right", "to the right", "on the right side"),
    "top": ("at the top", "at the top", "on the top", "near the top"),
    "bottom": ("at the bottom", "at the bottom", "on the bottom", "near the bottom"),
    "centre": ("in the centre", "in the centre", "in the center", "in the middle", "centred"),
}

BACKGROUND_PHRASES: Final = (
    " on {a} background",
    " on {a} background",
    " on {a} background",
    " with {a} background",
    " against {a} background",
    " on a background of {plain}",
    ", {plain} background",
    " on {plain}",
)

OPENINGS: Final = ("a picture of ", "a drawing of ", "an image of ", "a simple drawing of ")

OPENING_SHARE: Final = 0.12
UNSAID_COLOUR_SHARE: Final = 0.04
UNSAID_BACKGROUND_SHARE: Final = 0.08
BACKGROUND_FIRST_SHARE: Final = 0.07
BARE_SHARE: Final = 0.08
CAPITAL_SHARE: Final = 0.1


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """Return one random caption that is true of the scene."""
    subject = _subject(scene, rng)
    if rng.random() < OPENING_SHARE:
        subject = _pick(rng, OPENINGS) + subject
    if rng.random() < UNSAID_BACKGROUND_SHARE:
        text = subject
    elif rng.random() < BACKGROUND_FIRST_SHARE:
        text = f"on {_with_article(_spelling(scene.background, rng))} background, {subject}"
    else:
        word = _spelling(scene.background, rng)
        phrase = _pick(rng, BACKGROUND_PHRASES)
        text = subject + phrase.format(a=_with_article(word), plain=word)
    return text.capitalize() if rng.random() < CAPITAL_SHARE else text


def _subject(scene: Scene, rng: np.random.Generator) -> str:
    if len(scene.objects) == 1:
        return _object(scene.objects[0], rng)
    return _pair(scene.objects[0], scene.objects[1], rng)


def _object(item: SceneObject, rng: np.random.Generator) -> str:
    """Return "a small red star on the left", with the parts the scene leaves open missing."""
    phrase = _noun(item, rng)
    if item.position is None:
        return phrase
    return f"{phrase} {_pick(rng, POSITION_PHRASES[item.position])}"


def _pair(first: SceneObject, second: SceneObject, rng: np.random.Generator) -> str:
    """Join two objects; the first is always the left or the upper one."""
    kind = rng.random()
    if kind < 0.6:
        phrases = [_object(first, rng), _object(second, rng)]
        if kind < 0.12:
            phrases.reverse()
        return " and ".join(phrases)
    if first.position == "top":
        if kind < 0.85:
            return f"{_noun(first, rng)} above {_noun(second, rng)}"
        return f"{_noun(second, rng)} below {_noun(first, rng)}"
    if kind < 0.75:
        return f"{_noun(first, rng)} and {_noun(second, rng)}"
    if kind < 0.9:
        return f"{_noun(first, rng)} next to {_noun(second, rng)}"
    return f"{_noun(first, rng)} to the left of {_noun(second, rng)}"


def _noun(item: SceneObject, rng: np.random.Generator) -> str:
    """Return "a small red star"; now and then without article or colour."""
    colour = "" if rng.random() < UNSAID_COLOUR_SHARE else _spelling(item.colour, rng)
    words = " ".join(w for w in (_pick(rng, SIZE_WORDS[item.size]), colour, item.shape) if w)
    return words if rng.random() < BARE_SHARE else _with_article(words)


def _with_article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def _spelling(colour: str, rng: np.random.Generator) -> str:
    return _pick(rng, ("grey", "grey", "gray")) if colour == "grey" else colour


def _pick(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[int(rng.integers(len(choices)))]
