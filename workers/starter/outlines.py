"""The outlines that training pictures are drawn with.

Every shape lives in a box from -1 to 1 on both axes, x to the right and y downwards, so that the
scene code only scales and shifts. A shape is a list of parts laid over each other in order: a part
either adds to the object or cuts a hole through which the background shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

ARC_POINTS: Final = 72


@dataclass(frozen=True, slots=True)
class Part:
    """One polygon of a shape: points of shape (n, 2), and whether it adds or cuts."""

    points: Points
    cuts: bool = False


def _polygon(*corners: tuple[float, float]) -> Part:
    return Part(np.array(corners, dtype=np.float64))


def _rectangle(left: float, top: float, right: float, bottom: float, cuts: bool = False) -> Part:
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return Part(np.array(corners, dtype=np.float64), cuts)


def _disc(x: float, y: float, radius: float, cuts: bool = False) -> Part:
    angles = np.linspace(0.0, 2.0 * np.pi, ARC_POINTS, endpoint=False)
    points = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1)
    return Part(points, cuts)


def _star() -> Part:
    """Return a five-pointed star, fatter than the classic one so that small ones keep arms."""
    angles = -np.pi / 2 + np.arange(10) * np.pi / 5
    radii = np.where(np.arange(10) % 2 == 0, 1.05, 0.46)
    points = np.stack([radii * np.cos(angles), 0.06 + radii * np.sin(angles)], axis=1)
    return Part(points)


def _heart() -> Part:
    angles = np.linspace(0.0, 2.0 * np.pi, ARC_POINTS, endpoint=False)
    x = 16.0 * np.sin(angles) ** 3
    y = (
        13.0 * np.cos(angles)
        - 5.0 * np.cos(2 * angles)
        - 2.0 * np.cos(3 * angles)
        - np.cos(4 * angles)
    )
    return Part(np.stack([x / 16.5, -(y + 2.5) / 15.5], axis=1))


def _moon() -> list[Part]:
    return [_disc(0.05, 0.0, 0.98), _disc(0.5, -0.12, 0.8, cuts=True)]


def _cross() -> list[Part]:
    return [_rectangle(-0.95, -0.32, 0.95, 0.32), _rectangle(-0.32, -0.95, 0.32, 0.95)]


def _arrow() -> list[Part]:
    head = _polygon((0.0, -0.85), (1.0, 0.0), (0.0, 0.85))
    return [_rectangle(-1.0, -0.3, 0.05, 0.3), head]


def _house() -> list[Part]:
    roof = _polygon((-1.0, -0.02), (0.0, -0.95), (1.0, -0.02))
    door = _rectangle(-0.2, 0.38, 0.2, 1.0, cuts=True)
    return [_rectangle(-0.74, -0.05, 0.74, 0.92), roof, door]


def _tree() -> list[Part]:
    crown = _polygon((0.0, -1.0), (0.62, -0.1), (-0.62, -0.1))
    skirt = _polygon((0.0, -0.55), (0.9, 0.58), (-0.9, 0.58))
    return [crown, skirt, _rectangle(-0.2, 0.5, 0.2, 1.0)]


def _flower() -> list[Part]:
    angles = np.arange(6) * np.pi / 3
    petals = [_disc(0.62 * float(np.cos(a)), 0.62 * float(np.sin(a)), 0.36) for a in angles]
    return [*petals, _disc(0.0, 0.0, 0.5), _disc(0.0, 0.0, 0.22, cuts=True)]


def _boat() -> list[Part]:
    hull = _polygon((-1.0, 0.36), (1.0, 0.36), (0.62, 0.9), (-0.62, 0.9))
    sail = _polygon((-0.05, -0.98), (0.85, 0.14), (-0.05, 0.14))
    mast = _rectangle(-0.22, -0.98, -0.04, 0.4)
    return [hull, sail, mast]


OUTLINES: Final[dict[str, list[Part]]] = {
    "circle": [_disc(0.0, 0.0, 0.92)],
    "square": [_rectangle(-0.82, -0.82, 0.82, 0.82)],
    "triangle": [_polygon((0.0, -0.92), (1.0, 0.8), (-1.0, 0.8))],
    "star": [_star()],
    "heart": [_heart()],
    "moon": _moon(),
    "cross": _cross(),
    "arrow": _arrow(),
    "house": _house(),
    "tree": _tree(),
    "flower": _flower(),
    "boat": _boat(),
}
