from __future__ import annotations

import hashlib

import imagehash
import numpy as np
import pytest
from PIL import Image

from storage.contract.output import ImageFormat, OutputOptions
from tests.unit.workers.output.scenery import scenery
from workers.output.encode import decode_picture, encode_picture
from workers.output.hashes import perceptual_hash, pixels_sha256


@pytest.mark.parametrize("side", [8, 64, 200, 512])
@pytest.mark.parametrize("seed", range(4))
def test_the_perceptual_hash_is_that_of_imagehash(side: int, seed: int) -> None:
    pixels = scenery(side, seed=seed)

    found = perceptual_hash(pixels)

    assert f"{found & (2**64 - 1):016x}" == str(imagehash.phash(Image.fromarray(pixels)))
    assert -(2**63) <= found < 2**63


def bits_apart(one: int, other: int) -> int:
    return ((one ^ other) & (2**64 - 1)).bit_count()


def test_pictures_that_look_alike_have_near_hashes() -> None:
    pixels = scenery(256, seed=1)
    pressed = decode_picture(
        encode_picture(pixels, OutputOptions(format=ImageFormat.JPEG, quality=40))
    )
    other = scenery(256, seed=2)

    assert bits_apart(perceptual_hash(pixels), perceptual_hash(pressed)) <= 4
    assert bits_apart(perceptual_hash(pixels), perceptual_hash(other)) >= 16


def test_the_pixels_hash_follows_every_pixel_and_the_shape() -> None:
    pixels = scenery(16, seed=0)
    changed = pixels.copy()
    changed[15, 15, 2] ^= 1

    found = {pixels_sha256(one) for one in (pixels, changed, pixels.reshape(8, 32, 3))}

    assert len(found) == 3
    assert pixels_sha256(pixels) == hashlib.sha256(b"16x16:" + pixels.tobytes()).hexdigest()
    assert pixels_sha256(pixels[::-1]) == pixels_sha256(np.ascontiguousarray(pixels[::-1]))
