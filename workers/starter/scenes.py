"""Random scenes and their pictures, the training data of the starter model.

A scene is drawn larger than needed and averaged down, which gives the soft one-pixel edges of a
real picture. Nothing here ever draws a held-out combination when asked for a training scene.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from workers.starter.outlines import OUTLINES
from workers.starter.vocabulary import (
    BACKGROUNDS,
    COLOUR_VALUES,
    OBJECT_COLOURS,
    POSITIONS,
    SHAPES,
    SIZES,
    Combination,
    is_held_out,
    is_visible,
)

Pixels = NDArray[np.uint8]

PICTURE_SIDE: Final = 64
SUPERSAMPLING: Final = 8

SINGLE_DIAMETERS: Final = {"small": 24.0, "medium": 32.0, "large": 44.0}
"""Width in pixels of an object alone in its picture."""

PAIR_DIAMETERS: Final = {"small": 20.0, "medium": 25.0, "large": 29.0}
"""Width in pixels of each of two objects, so that both fit side by side."""

EDGE_GAP: Final = 4.0
PAIR_OFFSET: Final = 15.5
PAIR_SHARE: Final = 0.25
UNPLACED_SHARE: Final = 0.3
SIZE_SHARES: Final = (0.27, 0.46, 0.27)


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One object: its words, and its centre and width in pixels of the 64x64 picture.

    `position` is None where the caption leaves it open; the object is then near the middle.
    """

    shape: str
    colour: str
    size: str
    position: str | None
    x: float
    y: float
    diameter: float


@dataclass(frozen=True, slots=True)
class Scene:
    """One or two objects on a background of one colour."""

    objects: tuple[SceneObject, ...]
    background: str


def sample_scene(rng: np.random.Generator) -> Scene:
    """Return a random training scene, free of held-out combinations."""
    background = BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
    if rng.random() < PAIR_SHARE:
        return Scene(_sample_pair(rng, background), background)
    shape, colour = _sample_look(rng, background)
    size = SIZES[rng.choice(len(SIZES), p=SIZE_SHARES)]
    placed = rng.random() >= UNPLACED_SHARE
    position = POSITIONS[rng.integers(len(POSITIONS))] if placed else None
    return Scene((place_alone(rng, shape, colour, size, position),), background)


def place_alone(
    rng: np.random.Generator, shape: str, colour: str, size: str, position: str | None
) -> SceneObject:
    """Return the only object of a picture, with a little random shift (pixels) in its place."""
    diameter = SINGLE_DIAMETERS[size] * float(rng.uniform(0.95, 1.05))
    middle = PICTURE_SIDE / 2
    reach = middle - EDGE_GAP - diameter / 2
    loose = min(reach, 5.0)
    tight = 1.5
    if position is None:
        dx, dy = rng.uniform(-loose, loose, 2)
    elif position == "centre":
        dx, dy = rng.uniform(-tight, tight, 2)
    else:
        along = reach + float(rng.uniform(-tight, tight))
        across = float(rng.uniform(-loose, loose)) / 2
        dx, dy = {
            "left": (-along, across),
            "right": (along, across),
            "top": (across, -along),
            "bottom": (across, along),
        }[position]
    return SceneObject(
        shape, colour, size, position, middle + float(dx), middle + float(dy), diameter
    )


def _sample_look(rng: np.random.Generator, background: str) -> tuple[str, str]:
    """Return a (shape, colour) that is visible on the background and not held out."""
    while True:
        shape = SHAPES[rng.integers(len(SHAPES))]
        colour = OBJECT_COLOURS[rng.integers(len(OBJECT_COLOURS))]
        held_out = is_held_out(Combination(shape, colour, background))
        if is_visible(colour, background) and not held_out:
            return shape, colour


def _sample_pair(rng: np.random.Generator, background: str) -> tuple[SceneObject, SceneObject]:
    sideways = rng.random() < 0.65
    places = ("left", "right") if sideways else ("top", "bottom")
    first, second = (_place_in_pair(rng, *_sample_look(rng, background), place) for place in places)
    return first, second


def _place_in_pair(rng: np.random.Generator, shape: str, colour: str, position: str) -> SceneObject:
    size = SIZES[rng.choice(len(SIZES), p=(0.1, 0.8, 0.1))]
    diameter = PAIR_DIAMETERS[size] * float(rng.uniform(0.96, 1.04))
    middle = PICTURE_SIDE / 2
    signs = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}[position]
    x, y = (middle + PAIR_OFFSET * sign + float(rng.uniform(-1.0, 1.0)) for sign in signs)
    return SceneObject(shape, colour, size, position, x, y, diameter)


def draw(scene: Scene) -> Pixels:
    """Return the picture of a scene, shape (64, 64, 3), eight-bit sRGB."""
    canvas = np.empty((PICTURE_SIDE, PICTURE_SIDE, 3), dtype=np.float32)
    canvas[:] = COLOUR_VALUES[scene.background]
    for item in scene.objects:
        cover = _coverage(item)[:, :, np.newaxis]
        colour = np.array(COLOUR_VALUES[item.colour], dtype=np.float32)
        canvas += cover * (colour - canvas)
    return np.rint(canvas).astype(np.uint8)


def _coverage(item: SceneObject) -> NDArray[np.float32]:
    """Return how much of each pixel the object covers, shape (64, 64), from 0 to 1."""
    side = PICTURE_SIDE * SUPERSAMPLING
    mask = Image.new("L", (side, side), 0)
    pen = ImageDraw.Draw(mask)
    for part in OUTLINES[item.shape]:
        points = part.points * (item.diameter / 2) + (item.x, item.y)
        flat = [float(v) for v in (points * SUPERSAMPLING - 0.5).ravel()]
        pen.polygon(flat, fill=0 if part.cuts else 255)
    small = mask.reduce(SUPERSAMPLING)
    return np.asarray(small, dtype=np.float32) / 255.0
