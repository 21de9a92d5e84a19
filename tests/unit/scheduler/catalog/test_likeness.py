"""The scheduler's hash of a picture is the workers'."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from scheduler.catalog.likeness import perceptual_hash
from workers.output.hashes import perceptual_hash as workers_hash


def blurred_noise(seed: int, size: tuple[int, int]) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Image.fromarray(noise).filter(ImageFilter.GaussianBlur(4))


@pytest.mark.parametrize("seed", range(40))
def test_it_is_bit_for_bit_what_workers_record(seed: int) -> None:
    picture = blurred_noise(seed, (64 + seed, 96))
    assert perceptual_hash(picture) == workers_hash(np.asarray(picture))


def test_a_smaller_softer_copy_is_near_and_another_picture_is_not() -> None:
    picture = blurred_noise(1, (256, 256))
    copy = picture.resize((150, 140)).filter(ImageFilter.GaussianBlur(1))

    def apart(other: Image.Image) -> int:
        return ((perceptual_hash(picture) ^ perceptual_hash(other)) & (2**64 - 1)).bit_count()

    assert apart(copy) <= 4
    assert apart(blurred_noise(2, (256, 256))) > 15
