"""Reading a picture of one object: background, object colour and shape, from pixels alone.

This is the independent half of the checker. It knows nothing of prompts and shares no code with
the drawing: colours are compared with its own table, shapes with its own ideal outlines, given
here as conditions on coordinates rather than as polygons.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

Grid = NDArray[np.float64]
Mask = NDArray[np.bool_]
Pixels = NDArray[np.uint8]

UNCLEAR: Final = "unclear"

COLOUR_TABLE: Final[dict[str, tuple[int, int, int]]] = {
    "red": (220, 40, 45),
    "orange": (245, 125, 25),
    "yellow": (255, 220, 60),
    "green": (45, 160, 75),
    "blue": (40, 90, 215),
    "purple": (130, 60, 175),
    "pink": (250, 140, 190),
    "brown": (125, 75, 40),
    "black": (20, 20, 25),
    "white": (250, 250, 250),
    "grey": (150, 155, 160),
}
"""Eight-bit sRGB value that each colour word stands for."""

FARTHEST_COLOUR: Final = 60.0
"""Largest RGB distance (0 to 441) at which a colour still counts as the named one."""

BORDER: Final = 2
LEAST_CONTRAST: Final = 60.0
LEAST_PIXELS: Final = 40
LEAST_OVERLAP: Final = 0.75
SUBSAMPLES: Final = 4


@dataclass(frozen=True, slots=True)
class Reading:
    """What a picture shows; `overlap` (0 to 1) says how well the named outline fits."""

    background: str
    colour: str
    shape: str
    overlap: float


def read_picture(pixels: Pixels) -> Reading:
    """Read a picture of one object, shape (height, width, 3), eight-bit sRGB."""
    picture = pixels.astype(np.float64)
    background = np.median(_border(picture), axis=0)
    background_name = name_colour(background)
    distance = np.sqrt(((picture - background) ** 2).sum(axis=2))
    mask: Mask = distance > LEAST_CONTRAST
    if int(mask.sum()) < LEAST_PIXELS:
        return Reading(background_name, UNCLEAR, UNCLEAR, 0.0)
    colour = np.median(picture[_interior(mask)], axis=0)
    shape, overlap = name_shape(_coverage(picture, background, colour))
    return Reading(background_name, name_colour(colour), shape, overlap)


def _border(picture: Grid) -> Grid:
    """Return the pixels of the outer frame, shape (n, 3)."""
    frame = np.ones(picture.shape[:2], dtype=bool)
    frame[BORDER:-BORDER, BORDER:-BORDER] = False
    return picture[frame]


def name_colour(colour: Grid) -> str:
    """Return the word nearest to an RGB colour, or "unclear" where none is near."""
    names = list(COLOUR_TABLE)
    gaps = np.linalg.norm(np.array([COLOUR_TABLE[n] for n in names]) - colour, axis=1)
    best = int(gaps.argmin())
    return names[best] if gaps[best] <= FARTHEST_COLOUR else UNCLEAR


def _interior(mask: Mask) -> Mask:
    """Return the pixels whose four neighbours are in the mask too, or the mask if none."""
    padded = np.pad(mask, 1)
    inner: Mask = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inner if inner.any() else mask


def _coverage(picture: Grid, background: Grid, colour: Grid) -> Grid:
    """Return how far each pixel is from background (0) to object colour (1)."""
    axis = colour - background
    share = ((picture - background) @ axis) / float(axis @ axis)
    # A faint haze over the whole picture would shift centroid and area, hence the ramp.
    clipped: Grid = np.clip((share - 0.1) / 0.8, 0.0, 1.0)
    return clipped


def name_shape(cover: Grid) -> tuple[str, float]:
    """Return the ideal outline that overlaps a coverage best, and the overlap (0 to 1).

    Each outline is laid on the object with the same centre of mass and the same area; the overlap
    is the intersection over the union of the two soft masks.
    """
    best_name, best_overlap = UNCLEAR, 0.0
    for name in OUTLINES:
        ideal = _lay_outline(name, cover)
        overlap = float(np.minimum(cover, ideal).sum() / np.maximum(cover, ideal).sum())
        if overlap > best_overlap:
            best_name, best_overlap = name, overlap
    return (best_name if best_overlap >= LEAST_OVERLAP else UNCLEAR), best_overlap


def _lay_outline(name: str, cover: Grid) -> Grid:
    """Return the outline's coverage with the centre of mass and area of the given one."""
    height, width = cover.shape
    ys, xs = np.mgrid[0:height, 0:width] + 0.5
    area = float(cover.sum())
    x, y = float((cover * xs).sum()) / area, float((cover * ys).sum()) / area
    unit_area, unit_x, unit_y = _measure(name)
    scale = (area / unit_area) ** 0.5
    fine = (np.arange(height * SUBSAMPLES) + 0.5) / SUBSAMPLES
    wide = (np.arange(width * SUBSAMPLES) + 0.5) / SUBSAMPLES
    grid_y, grid_x = np.meshgrid(fine, wide, indexing="ij")
    inside = OUTLINES[name]((grid_x - x) / scale + unit_x, (grid_y - y) / scale + unit_y)
    blocks = inside.reshape(height, SUBSAMPLES, width, SUBSAMPLES)
    cells: Grid = blocks.mean(axis=(1, 3))
    return cells


@cache
def _measure(name: str) -> tuple[float, float, float]:
    """Return area and centre of mass (x, y) of an outline in its own units."""
    line = np.linspace(-1.3, 1.3, 521)
    y, x = np.meshgrid(line, line, indexing="ij")
    inside = OUTLINES[name](x, y)
    cell = (line[1] - line[0]) ** 2
    return float(inside.sum() * cell), float(x[inside].mean()), float(y[inside].mean())


def _box(x: Grid, y: Grid, bounds: tuple[float, float, float, float]) -> Mask:
    """Return an upright rectangle from its left, top, right and bottom."""
    left, top, right, bottom = bounds
    inside: Mask = (x >= left) & (x <= right) & (y >= top) & (y <= bottom)
    return inside


def _wedge(x: Grid, y: Grid, top: float, bottom: float, half_width: float) -> Mask:
    """Return an upright isosceles triangle with its tip at the top."""
    inside: Mask = (y <= bottom) & (np.abs(x) <= half_width * (y - top) / (bottom - top))
    return inside


def _disc(x: Grid, y: Grid, centre_x: float, centre_y: float, radius: float) -> Mask:
    inside: Mask = (x - centre_x) ** 2 + (y - centre_y) ** 2 <= radius**2
    return inside


def _star(x: Grid, y: Grid) -> Mask:
    """Return five points of length 1 with valleys at 0.44, by folding the angle."""
    turn = np.arctan2(x, -y) % (2 * np.pi / 5)
    folded = np.minimum(turn, 2 * np.pi / 5 - turn)
    radius = np.hypot(x, y)
    along, across = radius * np.cos(folded), radius * np.sin(folded)
    valley_along, valley_across = 0.44 * np.cos(np.pi / 5), 0.44 * np.sin(np.pi / 5)
    inside: Mask = (1 - along) * valley_across >= across * (1 - valley_along)
    return inside


def _heart(x: Grid, y: Grid) -> Mask:
    """Return the area between the upper and the lower half of the well-known heart curve."""
    turn = np.arcsin(np.cbrt(np.clip(x, -1.0, 1.0)))
    upper = _heart_height(turn)
    lower = _heart_height(np.pi - turn)
    inside: Mask = (np.abs(x) <= 1.0) & (-y <= upper) & (-y >= lower)
    return inside


def _heart_height(turn: Grid) -> Grid:
    waves = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
    height: Grid = waves / 16.0
    return height


def _flower(x: Grid, y: Grid) -> Mask:
    """Return six round petals around a disc with a hole."""
    turn = (np.arctan2(y, x) + np.pi / 6) % (np.pi / 3) - np.pi / 6
    radius = np.hypot(x, y)
    petals = _disc(radius * np.cos(turn), radius * np.sin(turn), 0.63, 0.0, 0.36)
    inside: Mask = (petals | (radius <= 0.5)) & (radius >= 0.22)
    return inside


def _house(x: Grid, y: Grid) -> Mask:
    inside: Mask = _wedge(x, y, -1.0, 0.0, 1.0) | _box(x, y, (-0.74, -0.05, 0.74, 0.92))
    return inside & ~_box(x, y, (-0.2, 0.38, 0.2, 1.0))


def _tree(x: Grid, y: Grid) -> Mask:
    crown = _wedge(x, y, -1.0, -0.1, 0.62) | _wedge(x, y, -0.55, 0.6, 0.9)
    return crown | _box(x, y, (-0.2, 0.5, 0.2, 1.0))


def _arrow(x: Grid, y: Grid) -> Mask:
    return _box(x, y, (-1.0, -0.3, 0.0, 0.3)) | _wedge(y, -x, -1.0, 0.0, 0.85)


def _boat(x: Grid, y: Grid) -> Mask:
    hull = (y >= 0.36) & (y <= 0.9) & (np.abs(x) <= 1.0 - 0.7 * (y - 0.36))
    sail = (x >= -0.1) & (y <= 0.14) & (x <= -0.05 + 0.9 * (y + 1.0) / 1.14)
    return hull | sail | _box(x, y, (-0.22, -1.0, -0.05, 0.36))


OUTLINES: Final[dict[str, Callable[[Grid, Grid], Mask]]] = {
    "circle": lambda x, y: _disc(x, y, 0.0, 0.0, 1.0),
    "square": lambda x, y: _box(x, y, (-1.0, -1.0, 1.0, 1.0)),
    "triangle": lambda x, y: _wedge(x, y, -1.0, 0.732, 1.0),
    "star": _star,
    "heart": _heart,
    "moon": lambda x, y: _disc(x, y, 0.0, 0.0, 1.0) & ~_disc(x, y, 0.46, -0.12, 0.82),
    "cross": lambda x, y: (
        _box(x, y, (-1.0, -0.33, 1.0, 0.33)) | _box(x, y, (-0.33, -1.0, 0.33, 1.0))
    ),
    "arrow": _arrow,
    "house": _house,
    "tree": _tree,
    "flower": _flower,
    "boat": _boat,
}
"""Inside or outside, for coordinates from about -1 to 1, x to the right and y downwards."""
