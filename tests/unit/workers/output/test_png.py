from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from workers.output.png import encode_png, encode_thumbnail

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


@pytest.mark.parametrize("text", ["plain", "naïve café", "星 ⭐ ünïcode\nsecond line", "a" * 5000])
def test_pixels_and_texts_come_back_whole(text: str) -> None:
    data = encode_png(PIXELS, parameters=text, record='{"a":1}')

    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        assert np.array_equal(np.asarray(picture), PIXELS)
        assert picture.info["parameters"] == text
        assert picture.info["rendermill"] == '{"a":1}'


def test_the_same_picture_is_the_same_file() -> None:
    assert encode_png(PIXELS, parameters="p", record="r") == encode_png(
        PIXELS, parameters="p", record="r"
    )


@pytest.mark.parametrize(
    ("size", "expected"), [((512, 1024), (128, 256)), ((64, 64), (64, 64)), ((1, 900), (1, 256))]
)
def test_a_thumbnail_fits_its_square_and_keeps_the_shape(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    width, height = size
    data = encode_thumbnail(np.zeros((height, width, 3), dtype=np.uint8))

    with Image.open(io.BytesIO(data)) as picture:
        assert picture.size == expected
        assert picture.format == "WEBP"
