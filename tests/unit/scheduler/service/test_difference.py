"""Comparing two pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from scheduler.service.difference import Verdict, causes, difference


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def grey(level: int, side: int = 8) -> np.ndarray:
    return np.full((side, side, 3), level, np.uint8)


def test_the_same_pixels_are_equal_whatever_the_file_says_beside() -> None:
    other = io.BytesIO()
    Image.fromarray(grey(9)).save(other, "WEBP", lossless=True)
    assert difference(png(grey(9)), other.getvalue()).verdict is Verdict.EQUAL


@given(st.integers(1, 255), st.integers(0, 255))
def test_the_largest_difference_is_measured_against_the_tolerance(by: int, allowed: int) -> None:
    pixels = grey(0)
    pixels[3, 4, 1] = by
    found = difference(png(grey(0)), png(pixels), tolerance=allowed)
    assert found.verdict is (Verdict.WITHIN if by <= allowed else Verdict.DIFFERS)
    assert found.largest == by
    assert found.changed == pytest.approx(1 / pixels.size)
    assert found.mean == pytest.approx(by / pixels.size)


def test_a_negative_difference_counts_like_a_positive_one() -> None:
    found = difference(png(grey(200)), png(grey(190)))
    assert (found.largest, found.changed) == (10, 1.0)


def test_pictures_of_another_size_are_said_to_be() -> None:
    assert difference(png(grey(0)), png(grey(0, 16))).verdict is Verdict.ANOTHER_SIZE


def test_what_changed_in_the_making_is_listed_part_by_part() -> None:
    then = {"device": "cpu/1", "versions": {"torch": "2.12", "diffusers": "0.42"}, "mode": "cpu"}
    now = {"device": "cpu/2", "versions": {"torch": "2.13", "diffusers": "0.42"}, "mode": "lean"}
    assert causes(then, now) == [("device", "cpu/1", "cpu/2"), ("torch", "2.12", "2.13")]


def test_what_one_of_them_does_not_say_is_none() -> None:
    assert causes({"steps_down": ["tiled"]}, {}) == [("steps_down", "tiled", "none")]
    # Another mode changes no pixel, and a shape is taken over as it was.
    assert causes({"steps_down": ["mode lean", "batch 2", "decode 1"]}, {}) == []
